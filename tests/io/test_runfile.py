"""The run folder: what is in it at any moment, and that VTK reads it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from lattice.io.lock import RunLock
from lattice.io.provenance import collect
from lattice.io.runfile import RunWriter, write_block
from lattice.io.runread import RunFile
from lattice.io.shards import Share, await_files
from lattice.model.errors import DamagedFileError, InputError
from tests.io import samples
from tests.io.samples import Cuts, blocks, own

ROOT = Path(__file__).parents[2]


def create(folder: Path, **output) -> RunWriter:
    return RunWriter.create(
        folder, samples.model(**output), seed=5, provenance=collect("cpu", 1), units={"K": "J"}
    )


def resume(folder: Path, time_h: float, **output) -> RunWriter:
    return RunWriter.resume(folder, samples.model(**output), time_h=time_h)


def row(i: int) -> dict[str, float]:
    return {"M0": i, "BV/TV": 0.1 * i, "TNF.mean": 2.0, "OPG.max": 3.0, "K": np.float32(1)}


def add(run: RunWriter, *moments: int) -> None:
    for i in moments:
        run.add_row(float(i), row(i))
        run.add_snapshot(float(i), samples.state(i))


def assert_holds(path: Path, moments: list[int], tolerance: float = 0.0) -> None:
    """The reader and VTK both see these moments, whose number is their seed and their hour."""
    run = RunFile.open(path)
    assert list(run.times) == moments
    assert list(run.series_time) == moments
    np.testing.assert_array_equal(run.series["BV/TV"][0], [0.1 * i for i in moments])
    seen = vtk_frames(run.path)
    assert [t for t, _ in seen] == moments
    for index, (moment, (_, shown)) in enumerate(zip(moments, seen, strict=True)):
        expected = samples.frame(moment)
        for found in (run.snapshot(index), shown):
            assert set(found) == set(expected)
            for name, array in found.items():
                assert array.dtype == expected[name].dtype
                np.testing.assert_allclose(array, expected[name], rtol=tolerance, atol=0)


def vtk_frames(path: Path) -> list[tuple[float, dict[str, np.ndarray]]]:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(path))
    reader.UpdateInformation()
    frames = []
    for step in range(reader.GetNumberOfSteps()):
        reader.SetStep(step)
        reader.Update()
        image = reader.GetOutput()
        assert image.GetDimensions() == tuple(n + 1 for n in samples.SHAPE[::-1])
        assert image.GetSpacing() == (10.0, 10.0, 10.0)
        data = image.GetCellData()
        arrays = {
            data.GetArrayName(i): vtk_to_numpy(data.GetArray(i)).reshape(samples.SHAPE).copy()
            for i in range(data.GetNumberOfArrays())
        }
        frames.append((reader.GetTimeValue(), arrays))
    return frames


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_vtk_reads_every_step_during_and_after_the_run(tmp_path, compression):
    folder = tmp_path / "run"
    with create(folder, compression=compression) as run:
        add(run, 0, 1, 2)
        run.flush()
        assert (folder / "snapshots").is_dir()
        assert_holds(folder, [0, 1, 2])
        run.finish()
    assert not (folder / "snapshots").exists()
    assert_holds(folder / "run.h5", [0, 1, 2])


def test_a_finished_run_file_stands_alone(tmp_path):
    with create(tmp_path / "run") as run:
        add(run, 0, 1)
        run.finish()
    moved = tmp_path / "elsewhere.h5"
    (tmp_path / "run" / "run.h5").rename(moved)
    assert_holds(moved, [0, 1])


def add_blocks(run: RunWriter, moment: int, cuts: Cuts, planes: int) -> None:
    """A row, and a snapshot of which several processes write their blocks."""
    run.add_row(float(moment), row(moment))
    pieces = blocks(cuts)
    shares = [
        Share(i, len(pieces), tuple(block[axis].start for axis in "zyx"), samples.SHAPE, 1)
        for i, block in enumerate(pieces)
    ]
    for share, block in zip(shares, pieces, strict=True):
        state = own(samples.state(moment), block)
        write_block(run.folder, share, moment, run.model, state, planes)
    run.add_blocks(float(moment), await_files(run.folder / "snapshots", shares[0], moment))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_blocks_of_several_processes_make_the_same_snapshots(tmp_path, compression):
    """Also in a run that goes on with other blocks: uneven ones along z, then whole lattices."""
    with create(tmp_path, compression=compression) as run:
        add_blocks(run, 0, ((0, 4, 8), (0, 5, 10), (0, 4, 8, 12)), 4)
        add_blocks(run, 1, ((0, 2, 8), (0, 10), (0, 12)), 2)
        add(run, 2)
        run.flush()
        assert sorted(p.name for p in (tmp_path / "snapshots").iterdir()) == [
            f"{i:09d}.h5" for i in (1, 2, 3)
        ]
        assert_holds(tmp_path, [0, 1, 2])
        run.finish()
    assert_holds(tmp_path, [0, 1, 2])


def test_blocks_that_nobody_has_added_go_when_the_run_goes_on(tmp_path):
    with create(tmp_path) as run:
        add(run, 0)
        run.flush()
        share = Share(1, 2, (4, 0, 0), samples.SHAPE, 1)
        state = own(samples.state(1), {"z": slice(4, 8)})
        write_block(tmp_path, share, 4, run.model, state, 4)
    with resume(tmp_path, 0.0):
        assert [p.name for p in (tmp_path / "snapshots").iterdir()] == ["000000001.h5"]


@pytest.mark.parametrize("finished", [False, True])
def test_resume_drops_what_came_after_the_checkpoint(tmp_path, finished):
    with create(tmp_path) as run:
        add(run, 0, 1, 2, 3)
        run.finish() if finished else run.flush()
    with resume(tmp_path, 1.5) as run:
        assert_holds(tmp_path, [0, 1])
        add(run, 2, 5)
        run.flush()
        assert_holds(tmp_path, [0, 1, 2, 5])
        run.finish()
        run.finish()
        assert_holds(tmp_path, [0, 1, 2, 5])
        add(run, 6)
        run.flush()
        assert_holds(tmp_path, [0, 1, 2, 5, 6])
    with resume(tmp_path, 5.0) as run:
        run.finish()
    assert_holds(tmp_path, [0, 1, 2, 5])
    assert not (tmp_path / "snapshots").exists()


def test_a_moment_written_again_is_replaced(tmp_path):
    with create(tmp_path) as run:
        add(run, 0, 1, 1)
        run.flush()
        assert_holds(tmp_path, [0, 1])
        run.finish()
        add(run, 1)
        run.flush()
        assert_holds(tmp_path, [0, 1])
        with pytest.raises(ValueError, match="comes after"):
            run.add_row(0.5, row(0))
        with pytest.raises(ValueError, match="comes after"):
            run.add_snapshot(0.5, samples.state(0))


def test_the_run_file_tells_what_it_is(tmp_path):
    with create(tmp_path) as run:
        add(run, 0)
        run.add_row(1.0, {"M0": 2, "late": 1.0})
        run.flush()
    found = RunFile.open(tmp_path)
    units = {name: unit for name, (_, unit) in found.series.items()}
    assert units == {
        "M0": "cells",
        "BV/TV": "1",
        "TNF.mean": "ng/mL",
        "OPG.max": "uM",
        "K": "J",
        "late": "1",
    }
    np.testing.assert_array_equal(found.series["late"][0], [np.nan, 1.0])
    np.testing.assert_array_equal(found.series["K"][0], [1.0, np.nan])
    assert found.states == ("empty", "M0", "M1")
    assert found.arrays["TNF"] == "ng/mL"
    assert (found.shape, found.voxel_um, found.seed) == (samples.SHAPE[::-1], 10.0, 5)
    assert found.config == (tmp_path / "config.toml").read_text("utf-8") == samples.model().text
    assert {"versions", "commit", "xla_flags", "device_kind", "host", "utc"} <= set(
        found.provenance
    )
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["series/BV/TV"].attrs["unit"] == "1"
        assert list(file["VTKHDF/CellData/cells"].attrs["state_names"]) == ["empty", "M0", "M1"]
        assert file["VTKHDF"].attrs["length_unit"] == "um"


def test_fields_and_precision_are_chosen(tmp_path):
    with create(tmp_path, fields=("cells", "OPG"), precision="float16") as run:
        add(run, 3)
        run.finish()
    found = RunFile.open(tmp_path).snapshot(-1)
    assert set(found) == {"cells", "bone", "OPG"}
    expected = samples.frame(3)
    np.testing.assert_array_equal(found["cells"], expected["cells"])
    # Concentrations of 1e-9 survive, to 11 bits; float16 itself would have made them 0.
    np.testing.assert_allclose(found["OPG"], expected["OPG"], rtol=2**-11)
    assert not np.array_equal(found["OPG"], expected["OPG"])
    assert not (found["OPG"].view(np.uint32) & 0x1FFF).any()


def test_unknown_fields_are_refused_before_a_folder_appears(tmp_path):
    with pytest.raises(InputError, match=r"output\.fields.*'TNFa'"):
        create(tmp_path / "run", fields=("TNFa",))
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_never_overwritten(tmp_path):
    with create(tmp_path / "run") as run:
        add(run, 0)
        run.finish()
    before = (tmp_path / "run" / "run.h5").read_bytes()
    with pytest.raises(InputError, match="osteolattice resume"):
        create(tmp_path / "run")
    assert (tmp_path / "run" / "run.h5").read_bytes() == before
    (tmp_path / "killed early").mkdir()
    (tmp_path / "killed early" / ".lock").touch()
    create(tmp_path / "killed early").close()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="never overwritten"):
        create(tmp_path / "file")


def test_one_process_at_a_time(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from lattice.io.lock import RunLock\n"
        "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)\n"
    )
    with create(tmp_path):
        pass
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    with pytest.raises(InputError, match=rf"another process \(process {child.pid} on"):
        resume(tmp_path, 0.0)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    with resume(tmp_path, 0.0), pytest.raises(InputError, match="another process"):
        RunLock(tmp_path)


def test_a_killed_run_opens_and_goes_on(tmp_path):
    """kill -9 at arbitrary moments of a process that adds, flushes, finishes and resumes."""
    code = (
        "import sys; from pathlib import Path; from tests.io import test_runfile as t\n"
        "folder = Path(sys.argv[1]); n = int(sys.argv[2])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    with t.resume(folder, float(n)) as run:\n"
        "        t.add(run, n, n + 1, n + 2); run.flush(); t.add(run, n + 3); run.finish()\n"
        "    n += 3\n"
    )
    with create(tmp_path) as run:
        add(run, 0)
        run.finish()
    last = 0
    for delay in (0.3, 0.11, 0.23, 0.4, 0.17, 0.05):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(last)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        os.kill(child.pid, signal.SIGKILL)
        assert child.communicate()[1] == b""
        found = RunFile.open(tmp_path)
        assert list(found.times) == list(range(len(found.times)))
        for i in range(len(found.times)):
            np.testing.assert_array_equal(found.snapshot(i)["cells"], samples.state(i)["cells"])
        last = len(found.times) - 1
    with resume(tmp_path, float(last)) as run:
        run.finish()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "config.toml", "run.h5"]


def test_a_full_disk_spares_the_run(tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from tests.io import test_runfile as t\n"
        "from lattice.io.files import StorageError\n"
        "folder = Path(sys.argv[1]); run = t.create(folder); t.add(run, 0, 1); run.flush()\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "for limit in (10, 2000, 9000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))\n"
        "    for action in (lambda: t.add(run, 2), run.flush, run.finish):\n"
        "        try:\n"
        "            action()\n"
        "        except StorageError as error:\n"
        "            assert 'File too large' in str(error), error\n"
        "        else:\n"
        "            sys.exit('a file larger than the disk was accepted')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "run.flush(); t.add(run, 2); run.flush()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert_holds(tmp_path, [0, 1, 2])
    assert not list(tmp_path.rglob("*.part"))


def test_damage_is_one_sentence(tmp_path):
    with create(tmp_path / "run") as run:
        add(run, 0, 1)
        run.flush()
    path = tmp_path / "run" / "run.h5"
    (tmp_path / "run" / "snapshots" / "000000002.h5").unlink()
    with pytest.raises(DamagedFileError, match=r"000000002\.h5 is missing"):
        RunFile.open(path).snapshot(1)
    with (
        pytest.raises(DamagedFileError, match=r"000000002\.h5 is missing"),
        resume(tmp_path / "run", 9.0),
    ):
        pass
    whole = path.read_bytes()
    for content in (b"", whole[:3000], b"PK" + whole[2:]):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match="cannot be read") as caught:
            RunFile.open(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        RunFile.open(tmp_path / "nowhere")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    with pytest.raises(InputError, match="not a run of osteolattice"):
        RunFile.open(tmp_path / "other.h5")
    with pytest.raises(InputError, match="not a run folder"):
        resume(tmp_path / "nowhere", 1.0)


def test_a_text_that_claims_gigabytes_is_refused_before_they_are_set_aside(tmp_path):
    """HDF5 sets the bytes aside before it looks for them: a few mangled ones took 4 GB."""
    path = tmp_path / "run" / "run.h5"
    with create(tmp_path / "run") as run:
        run.flush()
    with h5py.File(path) as file:
        place = file["config"].id.get_offset()
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + b"\xff\xff\xff\xef" + whole[place + 4 :])
    with pytest.raises(DamagedFileError, match="config claims more bytes than the file has"):
        RunFile.open(path)


@pytest.mark.parametrize("word", ["seed", "provenance"])
def test_a_run_that_does_not_tell_its_origin_is_damaged(tmp_path, word):
    path = tmp_path / "run" / "run.h5"
    with create(tmp_path / "run") as run:
        run.flush()
    content = path.read_bytes()
    assert content.count(f'"{word}"'.encode()) == 1
    path.write_bytes(content.replace(f'"{word}"'.encode(), f'"{word.upper()}"'.encode()))
    with pytest.raises(DamagedFileError, match="cannot be read"):
        RunFile.open(path)
