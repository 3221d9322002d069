"""The plan of a run against the compiler's own account of the program that runs."""

from __future__ import annotations

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from lattice.cli.planning import bytes_in, size
from lattice.engine.footprint import Footprint, fewest_devices, received, sharings
from lattice.model.errors import InputError
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
    agree(write_model(tmp_path), "16x16x16:1", "12x20x32:4", "24x16x32:2,4:8")


@pytest.mark.full
def test_the_plan_of_a_whole_tissue_is_what_the_compiler_says(tmp_path):
    head = HEAD.format(
        shape=[16, 16, 16], boundary='"no-flux"', step="30 min", until="1 day", time=""
    )
    path = tmp_path / "tissue.toml"
    path.write_text(head + TISSUE)
    agree(path, "24x24x24:1", "24x20x32:2", "70x72x64:4", "24x24x64:2,4:8", "32x32x64:2,8:4")
    agree(ROOT / "benchmarks" / "whole_step.toml", "80x72x72:1", "64x64x64:2,8:4")


def test_received_counts_what_travels_in_a_step():
    mesh = jax.make_mesh((1,), ("slabs",), axis_types=(AxisType.Auto,))

    def step(a):
        def twice(_, a):
            return jax.lax.ppermute(a, "slabs", [(0, 0)])

        a = jax.lax.fori_loop(0, 3, twice, a)  # 3 times 10 floats
        b = jax.lax.cond(a[0] > 0, lambda a: twice(0, a), lambda a: a, a)  # 10 floats at most
        return a + b + jnp.sum(jax.lax.all_gather(a, "slabs", tiled=True))  # nothing but its own

    spec = PartitionSpec("slabs")
    mapped = jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    traced = jax.jit(mapped).trace(jax.ShapeDtypeStruct((10,), jnp.float32))
    assert received(traced.jaxpr.jaxpr) == 4 * 10 * 4


def test_fewest_devices_that_hold_a_lattice():
    def known(devices: int) -> Footprint:
        return Footprint(devices, 24, 960 // devices, 40, 0)

    pair = (known(2), known(4))
    assert sharings(24) == [1, 2, 3, 4, 6, 8, 12]
    assert [fewest_devices(pair, limit) for limit in (1001.0, 999.0, 361.0, 121.0, 119.0)] == [
        1,
        2,
        3,
        12,
        None,
    ]


def test_sizes_of_memory():
    assert bytes_in("80 GB") == 80e9
    assert bytes_in("1.5GiB") == 1.5 * 2**30
    assert size(1536.0) == "1.5 KiB"
    for wrong in ("80", "0 GB", "-1 GB", "80 Gb", "iB"):
        with pytest.raises(InputError, match="80 GB"):
            bytes_in(wrong)


def test_check_prints_the_plan_and_refuses_what_cannot_be_shared(tmp_path):
    config = write_model(tmp_path)
    shape = ("--shape", "8x8x16")
    said = run_command("check", config, *shape, "--devices", 4, "--device-memory", "1 kB")
    assert said.returncode == 0, said.stderr
    for word in ("8 x 8 x 16 voxels on 4 device(s)", "received by each", "time per step", "before"):
        assert word in said.stdout
    assert "devices needed     more devices than its planes" in said.stdout
    for wrong, word in (
        (("--devices", 3), "16 planes along z cannot be shared evenly by 3 devices"),
        (("--devices", 0), "write a whole number"),
        (("--device-memory", "much"), "80 GB"),
    ):
        refused = run_command("check", config, *shape, *wrong)
        assert (refused.returncode, word in refused.stderr) == (2, True), refused.stderr
    assert run_command("check", config, "--shape", "8x8").returncode == 2
