"""Layers of voxels that lie alike: side of the surface, depth, region."""

from __future__ import annotations

import numpy as np

from lattice.analysis.layers import changed_in_layers, layer_names, layers_of


def test_depth_counts_faces_to_the_other_side():
    bone = np.zeros((9, 4, 5), np.uint8)
    bone[:4] = 1
    bone[8, 0, 0] = 1  # one voxel in the far corner
    names = layer_names()
    assert names == ("marrow.1", "marrow.2", "bone.1", "bone.2")
    found = np.array(names)[layers_of(bone)]
    column = ["bone.2", "bone.2", "bone.2", "bone.1", "marrow.1", "marrow.2"]
    assert found[:6, 3, 4].tolist() == column
    assert (found[6:, 3, 4] == "marrow.2").all()
    assert found[8, 0, 0] == "bone.1"
    # Neighbours along an edge are two faces apart.
    assert (found[7, 0, 0], found[7, 1, 0], found[7, 1, 1]) == ("marrow.1", "marrow.2", "marrow.2")


def test_without_another_side_all_lies_deep():
    whole = np.ones((3, 3, 3), np.uint8)
    assert set(np.array(layer_names())[layers_of(whole)].ravel()) == {"bone.2"}
    assert set(np.array(layer_names())[layers_of(0 * whole)].ravel()) == {"marrow.2"}


def test_regions_divide_each_axis_and_keep_the_layer():
    bone = np.zeros((7, 4, 6), np.uint8)
    bone[:, :2] = 1
    names = np.array(layer_names((2, 1, 3)))
    assert len(set(names)) == len(names) == 6 * 4
    found, whole = names[layers_of(bone, (2, 1, 3))], np.array(layer_names())[layers_of(bone)]
    assert found[0, 0, 0] == "bone.2.0-0-0"
    assert found[0, 1, 3] == "bone.1.0-0-1"
    assert found[3, 3, 2] == "marrow.2.0-0-1"
    assert found[4, 2, 5] == "marrow.1.1-0-2"
    for name, layer in zip(found.ravel(), whole.ravel(), strict=True):
        assert name.rsplit(".", 1)[0] == layer


def test_what_changes_counts_on_its_side_of_the_surface():
    names = layer_names((1, 1, 2))
    layers = np.array([[[0, 1, 2, 3, 4, 5, 6, 7]]], np.uint16)
    none, every = np.zeros((1, 1, 8), bool), np.ones((1, 1, 8), bool)
    formed = dict(zip(names, changed_in_layers(layers, none, every, (1, 1, 2)), strict=True))
    resorbed = dict(zip(names, changed_in_layers(layers, every, none, (1, 1, 2)), strict=True))
    # A pit in bone that fills has formed at the surface; a bump that goes is resorbed there.
    for region in ("0-0-0", "0-0-1"):
        assert formed[f"marrow.1.{region}"] == resorbed[f"bone.1.{region}"] == 3
        assert formed[f"marrow.2.{region}"] == resorbed[f"bone.2.{region}"] == 1
    assert sum(formed.values()) == sum(resorbed.values()) == 8
    assert not changed_in_layers(layers, every, every, (1, 1, 2)).any()
