"""Fetching from a server that breaks, truncates, resets and lies."""

import hashlib
import socket
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from probe.datasets import DATASETS, DatasetOptions, open_dataset
from probe.datasets.fetch import download_bytes, fetch
from probe.datasets.place import data_folder, is_fetched
from probe.errors import DataError
from tests import archives
from tests.faulty_server import running_server, serve


@pytest.fixture
def server():
    with running_server() as server:
        yield server


@pytest.fixture
def row(server, tmp_path):
    """CUB-200-2011 with an archive of our own behind the address."""
    path = archives.write_tar(
        tmp_path / "CUB_200_2011.tgz",
        archives.cub_2011(8) | {"noise": np.random.default_rng(0).bytes(400_000)},
    )
    return serve(server, DATASETS["cub200-2011"], {"CUB_200_2011.tgz": path.read_bytes()})


def leftovers(home):
    return sorted(place.name for place in home.datasets.iterdir()) if home.datasets.exists() else []


def test_fetched_unpacked_and_opened(server, row, home, monkeypatch):
    seen = []
    assert not is_fetched(row, home)
    folder = fetch(row, home, progress=lambda name, here, total: seen.append((name, here, total)), pause=0)
    size = download_bytes(row)
    assert seen[-1] == ("CUB_200_2011.tgz", size, size)
    assert folder == data_folder(row, home)
    assert leftovers(home) == ["cub200-2011"]
    assert len(open_dataset("cub200-2011", home)) == 24
    fetch(row, home, pause=0)
    assert server.asked == [0]


@pytest.mark.parametrize("how", ["cut", "reset", "dropped"])
def test_three_broken_connections_are_resumed(server, row, home, how):
    server.behave = [how, how, how]
    fetch(row, home, pause=0)
    assert server.asked[0] == 0
    assert server.asked == sorted(server.asked)
    assert (server.asked[-1] > 0) == (how != "dropped")
    assert len(server.asked) == 4
    assert is_fetched(row, home)


def test_a_server_that_is_busy_or_knows_no_ranges(server, row, home):
    server.behave = ["cut", 503, "no ranges"]
    fetch(row, home, pause=0)
    assert server.asked[2] > 0
    assert is_fetched(row, home)


@pytest.mark.parametrize("how", ["text/html", "gzip"])
def test_an_archive_with_the_wrong_label_is_still_the_archive(server, row, home, how):
    server.behave = [how]
    fetch(row, home, pause=0)
    assert is_fetched(row, home)
    assert len(server.asked) == 1


@pytest.mark.parametrize("how", ["page", "portal", "redirect"])
def test_a_web_page_does_not_cost_what_was_fetched_before(server, row, home, how):
    server.behave = ["cut", how]
    with pytest.raises(DataError, match="answered with a web page"):
        fetch(row, home, pause=0)
    (part,) = (home.datasets / ".fetching-cub200-2011").iterdir()
    have = part.stat().st_size
    assert row.files[0].bytes > have > 0
    server.asked.clear()
    fetch(row, home, pause=0)
    assert server.asked == [have]


def test_what_is_left_of_another_set_whose_name_begins_alike_is_kept(home):
    part = home.datasets / ".fetching-cub200-2011" / "CUB_200_2011.tgz.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it")
    part.parent.with_name(f"{part.parent.name}.lock").touch()
    (home.datasets / "cub200").mkdir()
    fetch(DATASETS["cub200"], home)
    assert part.read_bytes() == b"half of it"


def test_a_part_that_is_a_link_is_not_written_through(server, row, home, tmp_path):
    mine = tmp_path / "mine"
    mine.write_bytes(b"my own")
    folder = home.datasets / ".fetching-cub200-2011"
    folder.mkdir(parents=True)
    (folder / f"{row.files[0].name}.part").symlink_to(mine)
    with pytest.raises(DataError, match="cannot be stored"):
        fetch(row, home, pause=0)
    assert mine.read_bytes() == b"my own"


def test_a_web_page_of_unknown_length_is_not_kept_as_a_part(server, row, home):
    row = replace(row, files=(replace(row.files[0], bytes=0, sha256="0" * 64),))
    server.behave = ["page"]
    with pytest.raises(DataError, match="answered with a web page"):
        fetch(row, home, pause=0)
    assert list((home.datasets / ".fetching-cub200-2011").iterdir()) == []


def drive_row(server, tmp_path):
    """The birds of 2010 from their own addresses, with the drive's name alone turned to the local server."""
    images, lists = archives.cub_2010(8)
    files = []
    for known, content in zip(DATASETS["cub200"].files, (images, lists), strict=True):
        raw = archives.write_tar(tmp_path / known.name, content).read_bytes()
        address = urlsplit(known.url)
        server.drive[parse_qs(address.query)["id"][0]] = raw
        local = f"{server.url(address.path.lstrip('/'))}?{address.query}"
        files.append(replace(known, url=local, bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest()))
    return replace(DATASETS["cub200"], files=tuple(files))


def test_a_drive_that_asks_to_confirm_is_answered_in_the_address(server, tmp_path, home):
    row = drive_row(server, tmp_path)
    assert [urlsplit(file.url).hostname for file in DATASETS["cub200"].files] == [
        "drive.usercontent.google.com"
    ] * 2
    fetch(row, home, pause=0)
    assert len(open_dataset("cub200", home)) == 24


def test_the_page_of_a_drive_that_asks_to_confirm_is_no_archive(server, tmp_path, home):
    row = drive_row(server, tmp_path)
    asking = [replace(file, url=file.url.replace("confirm=t&", "")) for file in row.files]
    with pytest.raises(DataError, match=r"answered with a web page, not images\.tgz") as caught:
        fetch(replace(row, files=tuple(asking)), home, pause=0)
    assert "--from" in str(caught.value)
    fetch(row, home, pause=0)
    assert is_fetched(row, home)


def test_a_part_that_was_not_asked_for_is_not_used(server, row, home):
    server.behave = ["cut", "wrong part"]
    fetch(row, home, pause=0)
    assert is_fetched(row, home)


def test_unannounced_length_and_early_end(server, row, home):
    row = replace(row, files=(replace(row.files[0], bytes=0),))
    server.behave = ["unannounced"]
    fetch_or_error = pytest.raises(DataError, match="not the file that is known")
    with fetch_or_error:
        fetch(row, home, pause=0)
    assert not is_fetched(row, home)
    fetch(row, home, pause=0)
    assert is_fetched(row, home)


def test_an_interrupted_fetch_goes_on_in_the_next_run(server, row, home):
    server.behave = ["cut"] + [503] * 20
    with pytest.raises(DataError, match="cannot be fetched") as caught:
        fetch(row, home, pause=0)
    assert "503" in str(caught.value)
    assert not is_fetched(row, home)
    with pytest.raises(DataError, match="not on this machine"):
        open_dataset("cub200-2011", home)
    server.behave, server.asked = [], []
    fetch(row, home, pause=0)
    assert server.asked[0] > 0


def test_a_stale_part_of_another_version_is_thrown_away(server, row, home):
    folder = home.datasets / ".fetching-cub200-2011"
    folder.mkdir(parents=True)
    (folder / "CUB_200_2011.tgz.part").write_bytes(b"old" * 50)
    fetch(row, home, pause=0)
    assert server.asked == [150, 0]
    assert is_fetched(row, home)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("other", "not the file that is known"),
        ("longer", "not the file that is known"),
        ("page", "the publisher answered with a web page"),
        ("portal", "the publisher answered with a web page"),
        (404, "the server answered 404"),
        (403, "the server answered 403"),
    ],
)
def test_a_server_that_lies_or_refuses(server, row, home, how, words):
    server.behave = [how] * 3
    with pytest.raises(DataError) as caught:
        fetch(row, home, pause=0)
    assert words in str(caught.value)
    assert "--from" in str(caught.value)
    if how == "other":
        assert row.files[0].sha256 in str(caught.value)
        assert hashlib.sha256(b"x" * row.files[0].bytes).hexdigest() in str(caught.value)
    assert not is_fetched(row, home)
    server.behave = []
    fetch(row, home, pause=0)
    assert is_fetched(row, home)


def test_nobody_there(row, home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    row = replace(row, files=(replace(row.files[0], url=f"http://127.0.0.1:{port}/x.tgz"),))
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(row, home, pause=0)


def test_a_hostile_archive_with_the_right_hash_leaves_nothing(server, tmp_path, home):
    path = archives.write_zip(tmp_path / "kagglecatsanddogs_5340.zip", archives.dogs(3) | {"../evil": b"x"})
    row = serve(server, DATASETS["dogs-vs-cats"], {path.name: path.read_bytes()})
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch(row, home, pause=0)
    assert not is_fetched(row, home)
    assert not (home.datasets / "evil").exists()
    assert not (home.root / "evil").exists()


def test_two_archives_and_plain_files(server, tmp_path, home):
    images, lists = archives.cub_2010(8)
    contents = {
        name: archives.write_tar(tmp_path / name, files).read_bytes()
        for name, files in (("images.tgz", images), ("lists.tgz", lists))
    }
    fetch(serve(server, DATASETS["cub200"], contents), home, pause=0)
    assert len(open_dataset("cub200", home)) == 24
    fetch(serve(server, DATASETS["fashion-mnist"], archives.fashion()), home, pause=0)
    assert len(open_dataset("fashion-mnist", home)) == 90
    fetch(serve(server, DATASETS["pathmnist"], {"pathmnist.npz": archives.medmnist()}), home, pause=0)
    assert len(open_dataset("pathmnist", home)) == 54
    assert leftovers(home) == ["cub200", "fashion-mnist", "pathmnist"]


def test_only_an_md5_is_known(server, home):
    raw = archives.medmnist()
    row = serve(server, DATASETS["pathmnist"], {"pathmnist.npz": raw})
    file = replace(row.files[0], sha256="", md5=hashlib.md5(raw).hexdigest())
    fetch(replace(row, files=(file,)), home, pause=0)
    assert is_fetched(row, home)


def test_a_set_without_an_address(home):
    with pytest.raises(DataError, match="cannot be fetched by a program") as caught:
        fetch(DATASETS["scenes15"], home)
    assert "--from" in str(caught.value)


def test_variants_share_what_was_fetched(server, tmp_path, home):
    path = archives.write_tar(tmp_path / "cifar-100-binary.tar.gz", archives.cifar100())
    fetch(serve(server, DATASETS["cifar100-25"], {path.name: path.read_bytes()}), home, pause=0)
    assert len(open_dataset("cifar100", home, DatasetOptions())) == 300
    assert len(server.asked) == 1
