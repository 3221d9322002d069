from __future__ import annotations

import numpy as np
import pytest

from lattice.analysis.cellular import cellular_morphometry, roles_of_model, roles_of_names
from lattice.model import loads
from tests.analysis.invented import model_text

STATES = ("empty", "apoptotic", "lining", "osteoblast", "osteoclast", "osteocyte", "dead_osteocyte")


def slab():
    """Bone below z = 5 of 10; its one surface of 10 x 10 faces carries known shares of cells."""
    bone = np.zeros((10, 10, 10), bool)
    bone[:5] = True
    cells = np.zeros(bone.shape, np.uint8)
    cells[5, :2] = 3  # 20 osteoblasts on bone
    cells[5, 2:3] = 4  # 10 osteoclasts
    cells[5, 3:6] = 2  # 30 lining cells
    cells[7, 0, :5] = 3  # 5 osteoblasts off bone
    cells[7, 1, :5] = 1  # 5 apoptotic cells
    cells[2, 0, :6], cells[2, 1, :2] = 5, 6  # 6 osteocytes, 2 empty lacunae
    osteoid = np.zeros(bone.shape, np.float32)
    osteoid[5, :2] = 0.4
    return bone, cells, osteoid, bone.astype(np.float32)


def test_a_slab_with_known_shares():
    bone, cells, osteoid, mineral = slab()
    surface = 0.1 * 0.1  # mm2
    found = cellular_morphometry(
        bone, cells, osteoid, mineral, STATES, roles_of_names(STATES), 10.0, surface
    )
    bone_volume = (500 + 20 * 0.4) * 1e-6
    expected = {
        "Ob.S/BS": 20.0,
        "Oc.S/BS": 10.0,
        "ES/BS": 10.0,
        "QS/BS": 30.0,
        "OS/BS": 20.0,
        "O.Th": 4.0,
        "Md.V": 500e-6,
        "OV": 8e-6,
        "OV/BV": 100 * 8e-6 / bone_volume,
        "N.Ob/BS": 20 / surface,
        "N.Oc/BS": 10 / surface,
        "N.Ob/TV": 25 / 1e-3,
        "N.Ot/BV": 6 / bone_volume,
        "Empty lacunae": 25.0,
        "Lacunar integrity": 75.0,
        "Apoptotic osteoblasts": 100 * 5 / 30,
    }
    assert found.keys() - {"Site occupancy"} == expected.keys()
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=1e-6), name


def test_faces_are_found_on_every_side():
    """An osteoblast on one side of a cube of bone covers a sixth of it, whichever side it is."""
    for axis in range(3):
        for at in (2, 6):
            bone = np.zeros((9, 9, 9), bool)
            bone[3:6, 3:6, 3:6] = True
            cells = np.zeros(bone.shape, np.uint8)
            np.moveaxis(cells, axis, 0)[at, 3:6, 3:6] = 3
            nothing = np.zeros(bone.shape, np.float32)
            found = cellular_morphometry(
                bone, cells, nothing, nothing, STATES, roles_of_names(STATES), 10.0, 1.0
            )
            assert found["Ob.S/BS"].value == pytest.approx(100 / 6)


def test_a_thin_trace_of_osteoid_is_no_seam():
    bone, cells, osteoid, mineral = slab()
    roles = roles_of_names(STATES)
    arguments = (bone, cells, osteoid, mineral, STATES, roles, 10.0, 0.01)
    assert cellular_morphometry(*arguments, seam_um=4.1)["OS/BS"].value == 0
    assert cellular_morphometry(*arguments, seam_um=3.9)["OS/BS"].value == pytest.approx(20)


def test_a_role_without_states_is_left_out():
    bone, cells, osteoid, mineral = slab()
    found = cellular_morphometry(bone, cells, osteoid, mineral, STATES, {}, 10.0, 0.01)
    assert set(found) == {"Md.V", "OV", "OV/BV", "OS/BS", "O.Th"}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("osteoblast_aged", "osteoblast"),
        ("preosteoblast", None),
        ("osteoclast_precursor", None),
        ("apoptotic_osteoblast", "apoptotic"),
        ("dead_osteocyte", "empty_lacuna"),
        ("empty_lacuna", "empty_lacuna"),
        ("bone_lining_cell", "lining"),
        ("M1", None),
    ],
)
def test_roles_by_name(name, role):
    roles = roles_of_names(["empty", name])
    assert [r for r, names in roles.items() if name in names] == ([role] if role else [])


def test_roles_by_what_states_do():
    text = model_text((4, 4, 4)).replace('name = "osteoclast"', 'name = "eater"')
    roles = roles_of_model(loads(text.replace("RANKL", "X")))
    assert roles["osteoblast"] == {"osteoblast_fresh", "osteoblast_aged"}
    assert roles["osteocyte"] == {"osteocyte"}
    assert roles["empty_lacuna"] == {"empty_lacuna"}


def test_roles_as_the_model_file_says():
    """Names in no language, roles by the key: they win over deeds and names."""
    text = model_text((4, 4, 4))
    for old, new, role in (
        ("osteoclast", "Zelle-3", "reversal"),
        ("lining", "Zelle-4", "lining"),
        ("apoptotic", "Zelle-5", "apoptotic"),
        ("osteocyte", "Zelle-6", "osteocyte"),
        ("M2", "Zelle-7", "efferocyte"),
        ("osteoblast_aged", "osteoblast_aged", "none"),
    ):
        text = text.replace(f'name = "{old}"', f'name = "{new}"\nrole = "{role}"')
        text = text.replace(f'into = "{old}"', f'into = "{new}"')
    roles = roles_of_model(loads(text))
    assert roles == {
        "osteoblast": {"osteoblast_fresh"},
        "osteoclast": frozenset(),
        "reversal": {"Zelle-3"},
        "lining": {"Zelle-4"},
        "apoptotic": {"Zelle-5"},
        "osteocyte": {"Zelle-6"},
        "efferocyte": {"Zelle-7", "efferocyte"},
        "empty_lacuna": {"empty_lacuna"},
        "debris": frozenset(),
    }


def test_efferocytic_index_and_debris():
    bone, cells, osteoid, mineral = slab()
    cells[8, 0, :3] = 7
    cells[8, 1, :4] = 8
    names = (*STATES, "eater", "rest")
    roles = roles_of_names(STATES) | {"efferocyte": {"eater"}, "debris": {"rest"}}
    found = cellular_morphometry(bone, cells, osteoid, mineral, names, roles, 10.0, 0.01)
    assert found["Efferocytic index"].value == pytest.approx(100 * 3 / 8)
    assert found["N.Debris/TV"].value == pytest.approx(4 / 1e-3)
