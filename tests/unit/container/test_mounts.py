import _thread
import contextlib
import csv
import errno
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.container import mounts
from slurm_gpushare.container.mounts import (
    Mount,
    bind_option,
    check_distinct,
    expectation,
    mount_option,
    open_source,
    parse_mount,
    resolve_datasets,
    resolve_mounts,
    within,
)
from slurm_gpushare.errors import RefusedError
from slurm_gpushare.node_policy import Dataset


@pytest.mark.parametrize(
    "text, mount",
    [
        ("/a:/b", Mount("/a", "/b", False)),
        ("/a:/b:ro", Mount("/a", "/b", True)),
        ("/a b/$c:/d'e/\"", Mount("/a b/$c", "/d'e/\"", False)),
        ("/a:/b/", Mount("/a", "/b", False)),
        ("/a/../c:/b", Mount("/a/../c", "/b", False)),
    ],
)
def test_parse_mount(text, mount):
    assert parse_mount(text) == mount


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a",
        "/a:",
        ":/b",
        "a:/b",
        "/a:b",
        "/a:/b:rw",
        "/a:/b:ro:ro",
        "/a:/",
        "/a://",
        "/a:/b/../etc",
        "/a:/./b",
        "/a://b",
        "~:/b",
        "/a:/.gpushare",
        "/a:/.gpushare/inside",
    ],
)
def test_what_is_no_mount_is_refused_with_its_text(text):
    with pytest.raises(RefusedError, match="--container-mounts") as caught:
        parse_mount(text)
    assert caught.value.exit_status == 77


@pytest.mark.parametrize(
    "mount, option",
    [
        (Mount("/a", "/b", True), "type=bind,source=/a,destination=/b,ro"),
        (Mount("/a", "/b", False), "type=bind,source=/a,destination=/b"),
        (Mount("/a,b:c", "/d", True), 'type=bind,"source=/a,b:c",destination=/d,ro'),
        (Mount('/q"x', "/d", False), 'type=bind,"source=/q""x",destination=/d'),
        (Mount("/a\nb", "/d ", False), 'type=bind,"source=/a\nb","destination=/d "'),
    ],
)
def test_mount_option(mount, option):
    assert mount_option(mount) == option


@given(st.text(min_size=1).filter(lambda text: "\0" not in text), st.booleans())
def test_mount_option_is_one_csv_record_of_the_same_paths(path, readonly):
    text = mount_option(Mount("/" + path, "/d" + path, readonly))
    (fields,) = csv.reader([text], strict=True) if "\n" not in text and "\r" not in text else [_read(text)]
    assert fields == ["type=bind", "source=/" + path, "destination=/d" + path] + ["ro"] * readonly


def _read(text):
    # csv.reader splits its input into lines itself; a quoted line end must come as it is.
    fields, field, quoted, position = [], "", False, 0
    while position < len(text):
        character = text[position]
        if quoted and text[position : position + 2] == '""':
            field += '"'
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            fields.append(field)
            field = ""
        else:
            assert quoted or character not in "\r\n"
            field += character
        position += 1
    return [*fields, field]


@pytest.mark.parametrize(
    "path, inside",
    [
        ("/scratch", True),
        ("/scratch/x", True),
        ("/scratch2", False),
        ("/scratch2/x", False),
        ("/", False),
        ("/scr", False),
    ],
)
def test_within_compares_by_component(path, inside):
    assert within(path, ("/nosuch", "/scratch")) is inside


def test_within_the_root_is_everything_and_within_nothing_is_nothing():
    assert within("/x", ("/",)) is True
    assert within("/x", ()) is False


def plain(mounts):
    """Return the mounts without what was found there."""
    return [mount._replace(found=None) for mount in mounts]


@pytest.fixture
def site(tmp_path):
    for name in ("scratch/alice", "scratch2/alice", "secret"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_mounts_go_by_real_path(site):
    (site / "scratch/link").symlink_to(site / "scratch/alice")
    mounts = resolve_mounts((f"{site}/scratch/link:/d:ro", f"{site}/scratch/alice:/e"), (f"{site}/scratch",))
    assert plain(mounts) == [Mount(f"{site}/scratch/alice", "/d", True), Mount(f"{site}/scratch/alice", "/e", False)]


def test_the_sites_own_folder_may_be_a_link(site):
    (site / "work").symlink_to(site / "scratch")
    assert resolve_mounts((f"{site}/work/alice:/d",), (f"{site}/work",))[0].source == f"{site}/scratch/alice"


@pytest.mark.parametrize(
    ("mount", "option"),
    [
        (Mount("/a b", "/d", True), "/a b:/d:ro"),
        (Mount("/a'$(id)", "/d", False), "/a'$(id):/d"),
    ],
)
def test_bind_option(mount, option):
    assert bind_option(mount) == option


@pytest.mark.parametrize("path", ["/a,b", "/a:b", '/"a"', "/a\nb", "/a\\", "/a ", "/a\t"])
def test_what_has_no_form_as_a_bind_is_refused(path):
    for mount in (Mount(path, "/d", False), Mount("/d", path, True)):
        with pytest.raises(RefusedError, match="cannot be mounted by this node's singularity"):
            bind_option(mount)


@pytest.mark.parametrize("source", ["scratch2/alice", "scratch/../secret", "scratch/alice/out", "secret", ""])
def test_a_mount_from_elsewhere_is_refused(site, source):
    (site / "scratch/alice/out").symlink_to(site / "secret")
    with pytest.raises(RefusedError, match="may not be mounted here") as caught:
        resolve_mounts((f"{site}/{source}:/d",), (f"{site}/scratch",))
    assert f"{site}/scratch" in str(caught.value)


def test_a_link_that_turns_elsewhere_after_the_check_is_not_followed(site):
    link = site / "scratch/link"
    link.symlink_to(site / "scratch/alice")
    (mount,) = resolve_mounts((f"{link}:/d",), (f"{site}/scratch",))
    link.unlink()
    link.symlink_to(site / "secret")
    assert "source=" + str(site / "scratch/alice") in mount_option(mount)


def test_a_folder_that_is_exchanged_after_the_check_is_noticed_in_the_container(site, first_program):
    """The runtime opens the path once more; the container's first program looks at what it found there."""
    folder = site / "scratch/alice"
    (mount,) = resolve_mounts((f"{folder}:{folder}",), (f"{site}/scratch",))
    word = expectation(mount.found, mount.destination)
    assert first_program(word).returncode == 0
    folder.rename(site / "scratch/away")
    folder.symlink_to(site / "secret")
    assert first_program(word).returncode == 78


def test_a_path_is_opened_once(site, monkeypatch):
    """Whatever becomes of the path meanwhile: what is compared with the policy is what was opened."""
    link, real = site / "scratch/link", os.open

    def swap(path, *rest, **named):
        descriptor = real(path, *rest, **named)
        link.unlink()
        link.symlink_to(site / "scratch/alice")
        return descriptor

    link.symlink_to(site / "secret")
    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(RefusedError, match="secret"):
        resolve_mounts((f"{link}:/d",), (f"{site}/scratch",))


@pytest.mark.parametrize("name", ["a,b", "a:b", " a ", 'a"b', "a'b", "a\nb", "$(id)", "-B", "\\"])
def test_names_that_shells_and_lists_would_break(site, name):
    folder = site / "scratch" / name
    folder.mkdir()
    found = open_source(str(folder), "x")
    assert found.path == str(folder) and within(found.path, (f"{site}/scratch",))
    (fields,) = [_read(mount_option(Mount(found.path, "/d", True)))]
    assert fields == ["type=bind", f"source={folder}", "destination=/d", "ro"]


def test_a_missing_source_is_a_clear_error(site):
    with pytest.raises(RefusedError, match="No such file or directory on this node"):
        resolve_mounts((f"{site}/scratch/nosuch:/d",), (f"{site}/scratch",))


def test_a_loop_of_links_is_a_clear_error(site):
    (site / "scratch/loop").symlink_to("loop")
    with pytest.raises(RefusedError, match="symbolic links"):
        resolve_mounts((f"{site}/scratch/loop:/d",), (f"{site}/scratch",))


def test_datasets_by_name(site):
    datasets = {
        "digits": Dataset(f"{site}/scratch", "/datasets/digits", "ro"),
        "work": Dataset(f"{site}/scratch2", "/work", "rw"),
    }
    assert plain(resolve_datasets(("digits", "work", "digits:/own/place"), datasets)) == [
        Mount(f"{site}/scratch", "/datasets/digits", True),
        Mount(f"{site}/scratch2", "/work", False),
        Mount(f"{site}/scratch", "/own/place", True),
    ]


@pytest.mark.parametrize("place", ["", "x", "/", "/a/../b", "/a:/b"])
def test_a_dataset_at_no_place_is_refused(site, place):
    text = f"digits:{place}"
    if place == "/a:/b":
        assert resolve_datasets((text,), {"digits": Dataset(f"{site}/scratch", "/d", "ro")})[0].destination == place
        return
    with pytest.raises(RefusedError, match=r"--dataset=digits: .* is no place in a container"):
        resolve_datasets((text,), {"digits": Dataset(f"{site}/scratch", "/d", "ro")})


def test_a_dataset_that_is_empty_is_one_whose_file_system_is_not_mounted(site):
    datasets = {mode: Dataset(f"{site}/secret", "/d", mode) for mode in ("ro", "rw")}
    with pytest.raises(RefusedError, match=r"--dataset=ro: '.*/secret' is empty on this node"):
        resolve_datasets(("ro",), datasets)
    assert resolve_datasets(("rw",), datasets)  # jobs fill it


def test_a_dataset_whose_file_system_must_be_mounted(site):
    def ask(mount_point):
        return resolve_datasets(("d",), {"d": Dataset(f"{site}/scratch", "/d", "rw", mount_point)})

    for path in (f"{site}/scratch", f"{site}/nosuch"):
        with pytest.raises(RefusedError, match=f"--dataset=d: nothing is mounted at '{path}' on this node"):
            ask(path)
    assert ask("/proc")
    with pytest.raises(RefusedError, match="--dataset=d: '/etc/passwd': Not a directory"):
        ask("/etc/passwd")


@pytest.mark.parametrize("call", ["open", "scandir", "stat"])
@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.EIO])
def test_a_file_system_that_is_dead_is_a_clear_error(site, monkeypatch, call, number):
    def fail(path, *rest, **named):
        if str(path).startswith(str(site)):
            raise OSError(number, os.strerror(number), path)
        return real(path, *rest, **named)

    real = getattr(os, call)
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RefusedError, match=rf"--dataset=d: .*: {os.strerror(number)} on this node"):
        # A file system that must be there is looked at first.
        mount_point = None if call == "open" else f"{site}/scratch"
        resolve_datasets(("d",), {"d": Dataset(f"{site}/scratch", "/d", "ro", mount_point)})


@pytest.mark.parametrize("call", ["stat", "open", "scandir"])
def test_what_does_not_answer_for_long_is_named_and_waited_for(site, monkeypatch, capfd, call):
    def slow(path, *rest, **named):
        end = time.monotonic() + 30
        while str(path).startswith(asked) and "\n" not in said[0] and time.monotonic() < end:
            said[0] += capfd.readouterr().err
            time.sleep(0.01)
        return real(path, *rest, **named)

    said, asked, real = [""], f"{site}/scratch", getattr(os, call)
    monkeypatch.setattr(os, call, slow)
    monkeypatch.setattr(mounts, "PATIENCE", 0.05)
    with contextlib.suppress(RefusedError):  # nothing is mounted there
        resolve_datasets(("d",), {"d": Dataset(asked, "/d", "ro", asked if call == "stat" else None)})
    said[0] += capfd.readouterr().err
    begin = f"gpushare: '{asked}' has not answered on {os.uname().nodename} for "
    assert said[0].startswith(begin) and said[0].endswith(" s: waiting for its file server\n")
    assert said[0].count("\n") == 1


@pytest.mark.parametrize("answered", range(3))
def test_any_look_may_be_the_first_that_finds_a_file_system_dead(site, monkeypatch, answered):
    """The kernel answers from its memory as long as it can."""

    def fail(path, *rest, **named):
        calls.append(path)
        if len(calls) == answered + 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return real(path, *rest, **named)

    calls, real = [], os.stat
    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(RefusedError, match=r"--dataset=d: .*: Stale file handle on this node"):
        resolve_datasets(("d",), {"d": Dataset(f"{site}/scratch", "/d", "ro", f"{site}/scratch")})


def test_what_answers_is_not_talked_of(site, monkeypatch, capfd):
    monkeypatch.setattr(mounts, "PATIENCE", 5)
    others = _thread._count()
    open_source(f"{site}/scratch", "--dataset=d")
    resolve_datasets(("d",), {"d": Dataset(f"{site}/scratch", "/d", "ro")})
    with pytest.raises(RefusedError):
        open_source(f"{site}/gone", "--dataset=d")
    end = time.monotonic() + 30
    while _thread._count() > others and time.monotonic() < end:
        time.sleep(0.01)
    assert (_thread._count(), capfd.readouterr().err) == (others, "")


def test_a_user_who_may_start_no_thread_has_the_dataset_all_the_same(site, monkeypatch):
    def full(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", full)
    assert open_source(f"{site}/scratch", "--dataset=d")


def test_a_dead_file_system_is_not_taken_for_a_lack_of_rights(site, monkeypatch):
    """Of access(2) there is yes or no alone."""

    def stale(path, *rest, **named):
        if str(path).startswith("/proc/self/fd/"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return real(path, *rest, **named)

    real = os.open
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "open", stale)
    with pytest.raises(RefusedError, match=rf"^x: '{site}/scratch': Stale file handle on this node$"):
        open_source(f"{site}/scratch", "x")


@pytest.mark.parametrize("name", ["nosuch", "Digits", "../digits", "/etc"])
def test_an_unknown_dataset_is_refused_with_the_known_ones(site, name):
    with pytest.raises(RefusedError, match="known: digits"):
        resolve_datasets((name,), {"digits": Dataset(str(site), "/d", "ro")})


def test_a_dataset_that_is_not_on_the_node_is_named(site):
    with pytest.raises(RefusedError, match=r"--dataset=digits: '.*/gone': No such file"):
        resolve_datasets(("digits",), {"digits": Dataset(f"{site}/gone", "/d", "ro")})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("mode", [0o700, 0o711, 0o744])
def test_a_dataset_that_the_user_may_not_read_is_refused(site, mode):
    os.chmod(site / "secret", mode)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for folder in (site, *site.parents):
                if os.stat(folder).st_uid == 0 and folder.name.startswith(("pytest", "popen", "test")):
                    os.chmod(folder, 0o755)
            os.setresuid(65534, 65534, 65534)
            try:
                resolve_datasets(("s",), {"s": Dataset(f"{site}/secret", "/d", "ro")})
            except RefusedError as error:
                status = 0 if "you may not read it" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_two_mounts_at_one_place_are_refused():
    check_distinct([Mount("/a", "/d", True), Mount("/a", "/d", True), Mount("/b", "/e", True)])
    with pytest.raises(RefusedError, match="'/d'"):
        check_distinct([Mount("/a", "/d", True), Mount("/b", "/d", True)])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/a/x/c", True), ("/a/x/c/d", True), ("/a/x/y/c", False), ("/a/c", False), ("/a/x/cc", False), ("/a/[/c", True)],
)
def test_patterns_stand_for_text_within_a_component(path: str, allowed: bool) -> None:
    assert within(path, ("/a/*/c",)) is allowed
    assert not within(path, ("/a/[x]/c",))
