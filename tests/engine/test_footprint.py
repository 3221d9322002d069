"""The plan of a run against the compiler's own account of the program that runs."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from lattice.cli.planning import bytes_in, sampled, size
from lattice.engine.declare import bytes_per_voxel
from lattice.engine.footprint import Footprint, fewest_devices, received
from lattice.model import load
from lattice.model.errors import InputError
from lattice.model.setting import Lattice
from tests.cli.tiny import ROOT, environment, run_command, write_model
from tests.conftest import HEAD, TISSUE

WORKER = ROOT / "tests" / "engine" / "plan_against_compiler.py"


def agree(path, *cases: str) -> None:
    """The plan is within 10 % of the compiler for each case (see the worker)."""
    forced = {**environment(), "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, WORKER, path, *cases]
    done = subprocess.run(command, env=forced, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(cases)
    for case, facts in zip(cases, found, strict=True):
        assert facts["plan"] == pytest.approx(facts["run"], rel=0.1), (case, facts)


def test_the_plan_is_what_the_compiler_says(tmp_path):
    agree(write_model(tmp_path), "16x16x16:1", "12x20x32:2x2x1", "24x16x32:2,4:8")


@pytest.mark.full
def test_the_plan_of_a_whole_tissue_is_what_the_compiler_says(tmp_path):
    head = HEAD.format(
        shape=[16, 16, 16], boundary='"no-flux"', step="30 min", until="1 day", time=""
    )
    path = tmp_path / "tissue.toml"
    path.write_text(head + TISSUE)
    agree(path, "24x24x24:1", "24x20x32:2", "24x20x32:2x2x2", "70x72x64:4", "24x24x64:2,4:8")
    agree(path, "32x32x64:2,8:4")
    agree(ROOT / "benchmarks" / "whole_step.toml", "80x72x72:1", "64x64x64:2,8:4")


def test_received_counts_what_travels_in_a_step():
    mesh = jax.make_mesh((1,), ("blocks",), axis_types=(AxisType.Auto,))

    def step(a):
        def twice(_, a):
            return jax.lax.ppermute(a, "blocks", [(0, 0)])

        a = jax.lax.fori_loop(0, 3, twice, a)  # 3 times 10 floats
        b = jax.lax.cond(a[0] > 0, lambda a: twice(0, a), lambda a: a, a)  # 10 floats at most
        return a + b + jnp.sum(jax.lax.all_gather(a, "blocks", tiled=True))  # nothing but its own

    spec = PartitionSpec("blocks")
    mapped = jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    traced = jax.jit(mapped).trace(jax.ShapeDtypeStruct((10,), jnp.float32))
    assert received(traced.jaxpr.jaxpr) == 4 * 10 * 4


def test_fewest_devices_that_hold_a_lattice():
    def known(devices: int) -> Footprint:
        """Ten bytes for each voxel of a slab and its halo, and 40 more."""
        voxels = 96 // devices + (16 if devices > 1 else 0)
        return Footprint((devices, 1, 1), voxels, 10 * voxels, 40, 0)

    line, pair = Lattice((1, 4, 24), 10.0), (known(2), known(4))
    found = [fewest_devices(line, pair, limit) for limit in (1001.0, 999.0, 681.0, 439.0, 279.0)]
    assert found == [1, 2, 2, 6, None]


def test_sizes_of_memory():
    assert bytes_in("80 GB") == 80e9
    assert bytes_in("1.5GiB") == 1.5 * 2**30
    assert size(1536.0) == "1.5 KiB"
    for wrong in ("80", "0 GB", "-1 GB", "80 Gb", "iB"):
        with pytest.raises(InputError, match="80 GB"):
            bytes_in(wrong)


def test_the_checkpoint_is_as_large_as_one_of_a_run(tmp_path):
    config = write_model(tmp_path, ("[8, 8, 8]", "[40, 40, 40]"))
    done = run_command("run", config, "--out", tmp_path / "run", "--until", "1 h", "--quiet")
    assert done.returncode == 0, done.stderr
    written = sorted((tmp_path / "run" / "checkpoints").glob("*.h5"))[-1].stat().st_size
    model = load(config)
    raw = bytes_per_voxel(model) * math.prod(model.lattice.shape)
    assert written <= sampled(model).stored * raw <= 1.5 * written


MADE = "geometry           at most 64 KiB in the first process"


def test_check_prints_the_plan_and_refuses_what_cannot_be_shared(tmp_path):
    config = write_model(tmp_path)
    shape = ("--shape", "8x8x16")
    said = run_command("check", config, *shape, "--devices", 4, "--device-memory", "1 kB")
    assert said.returncode == 0, said.stderr
    blocks = "blocks             2 along z, 1 along y, 2 along x"
    voxels = "8 x 8 x 16 voxels on 4 device(s)"
    for word in (voxels, blocks, "received by each", "time per step", "before", MADE):
        assert word in said.stdout
    assert "devices needed     more devices than its planes" in said.stdout
    for wrong, word in (
        (("--devices", 3), "cannot be shared evenly by 3 devices"),
        (("--devices", "3x1x1"), "16 planes along z cannot be shared evenly by 3 blocks"),
        (("--devices", 0), "write a whole number"),
        (("--device-memory", "much"), "80 GB"),
    ):
        refused = run_command("check", config, *shape, *wrong)
        assert (refused.returncode, word in refused.stderr) == (2, True), refused.stderr
    assert run_command("check", config, "--shape", "8x8").returncode == 2
