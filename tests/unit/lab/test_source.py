"""What of the source tree is copied into a lab."""

import subprocess

from slurm_gpushare.lab import source


def test_a_tree_without_git_is_copied_without_caches(tmp_path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/__pycache__").mkdir(parents=True)
    (tree / ".venv").mkdir()
    (tree / "a/b.py").write_text("x")
    (tree / "a/__pycache__/b.pyc").write_text("x")
    (tree / ".venv/c").write_text("x")
    assert source.listed_files(tree) == ["a/b.py"]


def test_git_says_what_is_tracked_or_new(tmp_path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, text in {".gitignore": "build\n", "old.py": "x", "gone.py": "x"}.items():
        (tree / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    subprocess.run(["git", "-C", str(tree), "add", "-A"], check=True)
    (tree / "gone.py").unlink()
    (tree / "new.py").write_text("x")
    (tree / "run.sh").write_text("x")
    (tree / "run.sh").chmod(0o755)
    (tree / "build").mkdir()
    (tree / "build/out").write_text("x")
    source.copy_source(tree, tmp_path / "copy")
    copied = sorted(path.name for path in (tmp_path / "copy").iterdir())
    assert copied == [".gitignore", "new.py", "old.py", "run.sh"]
    assert (tmp_path / "copy/run.sh").stat().st_mode & 0o111


def test_this_tree_is_a_source_tree() -> None:
    assert (source.source_root() / "slurm_gpushare").is_dir()
