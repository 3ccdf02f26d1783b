import pytest

from omni.files.atomic import replacing, write_text


def fill(path, kind, text):
    if kind == "folder":
        (path / "in").mkdir(parents=True)
        path = path / "in" / "file"
    path.write_text(text)


def content(path):
    return (path / "in" / "file" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_written_replaces_the_old_or_leaves_it(tmp_path, kind, shared):
    target = tmp_path / "new" / "it"
    fill(tmp_path / "new" / ".it.partial", "folder", "left by a kill")
    with replacing(target, shared) as scratch:
        fill(scratch, kind, "old")
    with pytest.raises(OSError, match="full"), replacing(target, shared) as scratch:
        fill(scratch, kind, "half")
        raise OSError("full")
    assert content(target) == "old"
    with replacing(target, shared) as scratch:
        fill(scratch, kind, "new")
        assert content(target) == "old"
    assert content(target) == "new"
    left = {path.name for path in target.parent.iterdir()} - {"it"}
    assert left == ({".it.partial"} if shared else set())  # another's, it may be


def test_two_writers_of_a_shared_target_do_not_meet(tmp_path):
    with replacing(tmp_path / "it", shared=True) as first:
        first.write_text("first")
        write_text(tmp_path / "it", "second", shared=True)
        assert first.read_text() == "first"
    assert content(tmp_path / "it") == "first"
