"""Hostile archives: refused as a whole, nothing written outside the target, nothing left behind."""

import gzip
import io
import stat
import subprocess
import sys
import tarfile
import zipfile

import pytest

from probe.datasets.unpack import Limits, unpack
from probe.errors import DataError
from tests import archives

GOOD = {"a/1.jpg": b"one" * 1000, "a/2.jpg": b"two", "b/3.jpg": b""}


def refused(path, tmp_path, words="cannot be unpacked", limits=None):
    """The archive is refused, and the only thing under tmp_path besides it is the empty parent folder."""
    before = set(tmp_path.rglob("*"))
    target = tmp_path / "out" / "set"
    with pytest.raises(DataError) as caught:
        unpack([path], target, limits)
    assert words in str(caught.value)
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "out"}


def tar_of(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name, content=b"x", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, content


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_good_tars_of_every_compression(tmp_path, mode):
    suffix = {"w": "tar", "w:gz": "tgz", "w:bz2": "tar.bz2", "w:xz": "tar.xz"}[mode]
    path = archives.write_tar(tmp_path / f"good.{suffix}", GOOD | {"./c/./4.jpg": b"4"}, mode)
    unpack([path], tmp_path / "set")
    found = {
        p.relative_to(tmp_path / "set").as_posix(): p.read_bytes() for p in (tmp_path / "set").rglob("*.jpg")
    }
    assert found == GOOD | {"c/4.jpg": b"4"}
    assert {place.name for place in tmp_path.iterdir()} == {path.name, "set"}


def test_good_zip_and_several_archives(tmp_path):
    one = archives.write_zip(tmp_path / "one.zip", GOOD | {"empty/": b""})
    two = archives.write_tar(tmp_path / "two.tgz", {"lists/train.txt": b"1"})
    unpack([one, two], tmp_path / "set")
    assert (tmp_path / "set" / "a" / "1.jpg").read_bytes() == GOOD["a/1.jpg"]
    assert (tmp_path / "set" / "empty").is_dir()
    assert (tmp_path / "set" / "lists" / "train.txt").exists()


NAMES = [
    "../evil.jpg",
    "a/../../evil.jpg",
    "/tmp/evil.jpg",
    "a\\..\\..\\evil.jpg",
    "C:/evil.jpg",
    "a/ev\x1bil.jpg",
    "a/ev\nil.jpg",
    "..",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_or_are_strange(tmp_path, name):
    refused(tar_of(tmp_path / "e.tgz", member("ok.jpg"), member(name)), tmp_path, "leads out")
    refused(archives.write_zip(tmp_path / "e.zip", {"ok.jpg": b"1", name: b"x"}), tmp_path, "leads out")


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "ok.jpg"),
        (tarfile.LNKTYPE, "ok.jpg"),
        (tarfile.LNKTYPE, "../../outside"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path, kind, target):
    bad = member("link.jpg", b"", type=kind, linkname=target)
    refused(tar_of(tmp_path / "e.tgz", member("ok.jpg"), bad), tmp_path, "link, a device or sparse")


def test_writing_through_a_link(tmp_path):
    (tmp_path / "outside").mkdir()
    link = member("d", b"", type=tarfile.SYMTYPE, linkname=str(tmp_path / "outside"))
    refused(tar_of(tmp_path / "e.tgz", link, member("d/evil.jpg")), tmp_path, "link")


def test_links_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "e.zip", tmp_path, "link or a device")


def test_a_name_twice_and_a_file_that_is_also_a_folder(tmp_path):
    refused(tar_of(tmp_path / "e.tgz", member("a.jpg"), member("a.jpg", b"2")), tmp_path, "comes twice")
    refused(tar_of(tmp_path / "f.tgz", member("a"), member("a/b.jpg")), tmp_path)
    refused(tar_of(tmp_path / "g.tgz", member("a/b.jpg"), member("a")), tmp_path)


def test_bombs(tmp_path):
    zeros = {"a.jpg": bytes(5_000_000)}
    small = Limits(ratio_from=1_000_000)
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", zeros["a.jpg"])
    refused(tmp_path / "b.zip", tmp_path, "unpacks to more than", small)
    refused(archives.write_tar(tmp_path / "b.tgz", zeros), tmp_path, "unpacks to more than", small)
    many = {f"{i}.jpg": b"" for i in range(50)}
    refused(
        archives.write_tar(tmp_path / "m.tgz", many), tmp_path, "more than 20 members", Limits(members=20)
    )
    with gzip.open(tmp_path / "t.tgz", "wb") as file:
        file.write(tar_bytes(GOOD) + bytes(5_000_000))
    refused(tmp_path / "t.tgz", tmp_path, "unpacks to more than", small)


def test_a_header_that_claims_to_be_enormous(tmp_path):
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 2**32
    (tmp_path / "p.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(4096))
    refused(tmp_path / "p.tar", tmp_path, "enormous")


def test_sparse_members(tmp_path):
    info = tarfile.TarInfo("s.jpg")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    info.pax_headers |= {"GNU.sparse.size": str(2**40), "GNU.sparse.numblocks": "1"}
    info.size = 1
    refused(tar_of(tmp_path / "s.tgz", (info, b"x")), tmp_path, "sparse")


def test_an_encrypted_zip(tmp_path):
    path = archives.write_zip(tmp_path / "x.zip", GOOD)
    raw = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = raw.find(magic)
        while place >= 0:
            raw[place + offset] |= 1
            place = raw.find(magic, place + 4)
    path.write_bytes(bytes(raw))
    refused(path, tmp_path, "encrypted")


def tar_bytes(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kept", [0, 1, 30, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["x.tgz", "x.zip", "x.tar.xz", "x.tar.bz2"])
def test_truncated_archives(tmp_path, name, kept):
    files = {f"{i}.jpg": archives.jpeg(i) for i in range(6)}
    modes = {"x.tgz": "w:gz", "x.tar.xz": "w:xz", "x.tar.bz2": "w:bz2"}
    write = archives.write_zip if name == "x.zip" else archives.write_tar
    path = write(tmp_path / name, files, *([modes[name]] if name in modes else []))
    raw = path.read_bytes()
    path.write_bytes(raw[: kept if isinstance(kept, int) else int(len(raw) * kept)])
    refused(path, tmp_path)


def test_a_plain_tar_cut_inside_a_member_or_damaged_in_a_header(tmp_path):
    raw = tar_bytes({f"{i}.jpg": bytes(2000) + b"end" for i in range(4)})
    (tmp_path / "cut.tar").write_bytes(raw[:5000])
    refused(tmp_path / "cut.tar", tmp_path)
    broken = bytearray(raw)
    second = raw.index(b"1.jpg")
    broken[second : second + 5] = b"\xff\xff\xff\xff\xff"
    (tmp_path / "broken.tar").write_bytes(bytes(broken))
    refused(tmp_path / "broken.tar", tmp_path, "damaged")


def test_damaged_bytes_in_a_zip_and_a_gz(tmp_path):
    path = archives.write_zip(tmp_path / "x.zip", {"a.jpg": archives.jpeg(1)})
    raw = bytearray(path.read_bytes())
    raw[120] ^= 255
    path.write_bytes(bytes(raw))
    refused(path, tmp_path, "damaged")
    path = archives.write_tar(tmp_path / "x.tgz", {"a.jpg": archives.jpeg(1) * 20})
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(bytes(raw))
    refused(path, tmp_path)


@pytest.mark.parametrize("content", [b"words" * 500, b"\x1f\x8bwords", b"PK\3\4words", b"\xfd7zXZwords"])
@pytest.mark.parametrize("name", ["x.zip", "x.tgz"])
def test_renamed_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, tmp_path)


def test_a_full_disk(tmp_path, monkeypatch):
    path = archives.write_zip(tmp_path / "x.zip", GOOD)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", full)
    with pytest.raises(DataError, match="cannot be unpacked") as caught:
        unpack([path], tmp_path / "set")
    assert "No space left" in str(caught.value)
    assert not (tmp_path / "set").exists()


def test_an_existing_target_is_not_written_into(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "whole").write_bytes(b"")
    unpack([archives.write_zip(tmp_path / "x.zip", GOOD)], tmp_path / "set")
    assert [place.name for place in (tmp_path / "set").iterdir()] == ["whole"]


def test_leftovers_of_dead_processes_are_swept_and_those_of_living_ones_are_not(tmp_path):
    from probe.scratch import scratch_folder

    path = archives.write_zip(tmp_path / "x.zip", GOOD)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom probe.scratch import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1]), '.unpacking-') as folder:\n"
        "    (folder / 'part').mkdir()\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    (dead,) = tmp_path.glob(".unpacking-*/")
    foreign = tmp_path / ".unpacking-without-a-lock"
    foreign.mkdir()
    with scratch_folder(tmp_path, ".unpacking-other-") as living:
        unpack([path], tmp_path / "set")
        assert not dead.exists()
        assert living.is_dir()
    assert {place.name for place in tmp_path.iterdir()} == {"x.zip", "set", foreign.name}
