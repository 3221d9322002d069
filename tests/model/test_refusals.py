"""Every way to be wrong that we know gets one sentence with file, key and fix."""

import pytest

from lattice.model import InputError, load, loads
from tests.model.example import BASE, changed

CASES = {
    "misspelt key": ('voxel = "10 um"', 'voxl = "10 um"', "lattice.voxl", 'did you mean "voxel"?'),
    "misspelt table": ("[geometry]", "[geometri]", "geometri", 'did you mean "geometry"?'),
    "missing key": ('voxel = "10 um"', "", "lattice.voxel", 'write voxel = "10 um"'),
    "bare number": ('"0.167 /min"', "0.167", "rule.engulf.rate", "has no unit"),
    "wrong unit": ('"0.167 /min"', '"0.167 um"', "rule.engulf.rate", 'write something like "0.6'),
    "unknown unit": ('"0.167 /min"', '"0.167 /mins"', "rule.engulf.rate", 'did you mean "min"?'),
    "unit on a number": (
        "in_bone = 0.02",
        'in_bone = "2 um"',
        "cytokine.TNF.in_bone",
        "has a unit",
    ),
    "negative rate": ('"0.167 /min"', '"-0.167 /min"', "rule.engulf.rate", "write 0 or more"),
    "fraction above 1": (
        "fraction = 0.05",
        "fraction = 1.5",
        "state.M0.seeding.fraction",
        "0 to 1",
    ),
    "unknown state": ('to = "M1"', 'to = "M11"', "rule.polarise.to", 'did you mean "M1"?'),
    "unknown signal": (
        'signal = "IL10"',
        'signal = "IL11"',
        "state.M1.secretes.TNF.when.0.signal",
        'did you mean "IL10"?',
    ),
    "unknown cytokine": (
        "takes_up = { TNF",
        "takes_up = { TFN",
        "state.corpse.takes_up.TFN",
        'did you mean "TNF"?',
    ),
    "state that may not live there": (
        'to = "corpse"\nafter',
        'to = "buried"\nafter',
        "rule.die.to",
        "lives in",
    ),
    "seeded where it may not live": (
        'where = "surface"',
        'where = "bone"',
        "state.builder.seeding.where",
        'write where = "surface"',
    ),
    "no half": (', half = "0.025 ng/mL"', "", "state.M1.secretes.TNF.when.0.half", "half = ..."),
    "half for linear": ("scale = 2", "half = 2", "rule.polarise.when.1.half", "scale instead"),
    "reserved state": ('name = "buried"', 'name = "empty"', "state.empty", "reserved"),
    "twice the name": ('name = "buried"', 'name = "corpse"', "state.corpse", "another name"),
    "bad name": ('name = "buried"', 'name = "a b"', "state.name", "letters, digits"),
    "rate and clock": (
        'after = "5 day"',
        'after = "5 day"\nrate = "1 /h"',
        "rule.die.rate",
        "both",
    ),
    "neither": ('after = "5 day"', "", "rule.die.rate", "neither"),
    "key of another rule": ('speed = "0.5', 'rate = "0.5', "rule.crawl.rate", "write speed"),
    "lists and texts": ('to = ["M1", "empty"]', 'to = "M1"', "rule.engulf.to", "both be lists"),
    "kill of an unknown state": (
        'states = ["builder"]',
        'states = ["bilder"]',
        "intervention.pulse.kill.states",
        'did you mean "builder"?',
    ),
    "factor on nothing": (
        "factor = { engulf",
        "factor = { engulff",
        "intervention.block.factor.engulff",
        'did you mean "engulf"?',
    ),
    "factor on diffusion": (
        '"cytokine.TNF.decay" = 2',
        '"cytokine.TNF.diffusion" = 2',
        "intervention.block.factor.cytokine.TNF.diffusion",
        "cannot change",
    ),
    "source of nothing": ('"rule.*"', '"rul.*"', "sources.rul.*", "no number"),
    "step does not divide": (
        'until = "2 day"\n\n[[cyt',
        'until = "2 day"\ncontact_step = "4 min"\n\n[[cyt',
        "time.contact_step",
        "integer part",
    ),
    "no end": ('until = "2 day"\n\n[[cyt', 'until = "0 day"\n\n[[cyt', "time.until", "usable time"),
    "odd periodic axis": (
        "shape = [8, 6, 4]",
        'shape = [9, 6, 4]\nboundary = "periodic"',
        "lattice.boundary",
        "write 10",
    ),
    "too large": ("[8, 6, 4]", "[65536, 65536, 2]", "lattice.shape", "2**32"),
    "key of another geometry": (
        'thickness = "20 um"',
        'thickness = "20 um"\nradius = "3 um"',
        "geometry.radius",
        '"plate"',
    ),
    "missing for the geometry": ('thickness = "20 um"', "", "geometry.thickness", "50 um"),
    "image that is not there": (
        'kind = "plate"\nthickness = "20 um"',
        'image = "none.nrrd"',
        "geometry.image",
        "does not exist",
    ),
    "mass and moles": (
        'decay = "0.0032 /min"',
        'decay = "0.0032 /min"\ninitial = "5 pM"',
        "cytokine.IL10.molar_mass",
        "write molar_mass",
    ),
    "diffusion left out": (
        'diffusion = "1800 um^2/min"',
        "",
        "cytokine.IL10.diffusion",
        "systemic = true",
    ),
    "decay left out": ('decay = "0.0032 /min"', "", "cytokine.IL10.decay", "half_life"),
    "state twice in a sum": (
        'signal = "neighbours.M1"',
        'signal = "neighbours.M1+M1"',
        "rule.polarise.when.1.signal",
        "write each once",
    ),
    "inverse that increases": (
        'effect = "increases", shape = "linear"',
        'effect = "increases", shape = "inverse"',
        "rule.polarise.when.1.effect",
        'write "decreases"',
    ),
    "production that has an age": (
        'decay = "0.0032 /min"',
        'decay = "0.0032 /min"\nproduction = { rate = "1 ng/mL/h", when = [ { signal = "age", '
        'effect = "increases", half = "1 day" } ] }',
        "cytokine.IL10.production.when",
        "no age",
    ),
    "systemic production that senses a place": (
        'diffusion = "1800 um^2/min"',
        'systemic = true\nproduction = { rate = "1 ng/mL/h", when = [ { signal = "TNF", '
        'effect = "increases", half = "1 ng/mL" } ] }',
        "cytokine.IL10.production.when",
        "differs from place to place",
    ),
    "not TOML": ("[lattice]", "[lattice", "", "not valid TOML"),
    "newer schema": ("schema = 1", "schema = 2", "schema", "from 1 to 1"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_sentence_with_file_key_and_fix(case):
    old, new, key, hint = case
    with pytest.raises(InputError) as caught:
        loads(changed(old, new), file="here.toml")
    message = str(caught.value)
    assert message.startswith("here.toml")
    assert f" {key}: " in message or not key
    assert hint in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_the_base_itself_is_right():
    assert loads(BASE).name == "base"


def test_the_line_is_named():
    text = changed('rate = "0.167 /min"', "rate = 0.167")
    line = text.splitlines().index("rate = 0.167") + 1
    with pytest.raises(InputError, match=f"^model:{line}: rule.engulf.rate: "):
        loads(text)


def test_seeded_fractions_of_one_place_sum_to_one_at_most():
    text = changed("fraction = 0.05", "fraction = 0.7").replace(
        "fraction = 0.2, age", "fraction = 0.4, age"
    )
    with pytest.raises(InputError, match=r"seeded in surface sum to 1.1"):
        loads(text)


def test_image_without_voxel_size(tmp_path):
    (tmp_path / "bone.tif").write_bytes(b"")
    text = changed('kind = "plate"\nthickness = "20 um"', 'image = "bone.tif"')
    with pytest.raises(InputError, match=r"geometry.image_voxel: .* write image_voxel"):
        loads(text, folder=tmp_path)


def test_image_folder_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "bone.tif").write_bytes(b"")
    text = changed(
        'kind = "plate"\nthickness = "20 um"',
        'image = "${OSTEOLATTICE_DATA}/bone.tif"\nimage_voxel = "19.5 um"',
    )
    monkeypatch.setenv("OSTEOLATTICE_DATA", str(tmp_path))
    assert loads(text).geometry.image == str(tmp_path / "bone.tif")
    monkeypatch.delenv("OSTEOLATTICE_DATA")
    with pytest.raises(InputError, match="environment variable"):
        loads(text)


def test_more_states_than_a_byte_holds():
    more = "".join(f'[[state]]\nname = "s{i}"\n' for i in range(200))
    with pytest.raises(InputError, match="at most 200"):
        loads(BASE + more)


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_files_that_are_no_text(tmp_path, kind):
    path = tmp_path / "model.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"model.toml"):
        load(path)
