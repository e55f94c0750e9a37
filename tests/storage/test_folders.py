"""Folders appear whole or not at all."""

from pathlib import Path

import pytest

from parity.storage.folders import folder_written_whole


def half_written(folder: Path) -> Path:
    """Begin to write a folder, and fail; return the temporary one."""
    with pytest.raises(RuntimeError) as failed, folder_written_whole(folder) as made:
        fail_in(made)
    return Path(str(failed.value))


def fail_in(made: Path) -> None:
    (made / "half").write_text("half")
    raise RuntimeError(made)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_older_folder_stays_until_the_new_one_is_whole_and_is_replaced_then(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "mine"
    with folder_written_whole(folder) as made:
        (made / "old").write_text("old")
        assert not folder.exists()
    half_written(folder)
    assert names(folder) == ["old"]
    with folder_written_whole(folder) as made:
        (made / "new").write_text("new")
        assert names(folder) == ["old"]
    assert names(folder) == ["new"]
    assert names(folder.parent) == ["mine"]


def test_where_the_new_folder_cannot_get_its_name_the_older_one_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    with folder_written_whole(folder) as made:
        (made / "old").write_text("old")
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial") and "older" not in path.name:
            raise RuntimeError
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(RuntimeError), folder_written_whole(folder) as made:
            (made / "new").write_text("new")
    assert names(tmp_path) == ["mine"]
    assert names(folder) == ["old"]


def test_what_a_killed_process_of_the_same_number_left_does_not_come_in(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    left = half_written(folder)
    left.mkdir()
    (left / "left").write_text("half")
    with folder_written_whole(folder) as made:
        (made / "new").write_text("new")
    assert names(tmp_path) == ["mine"]
    assert names(folder) == ["new"]
