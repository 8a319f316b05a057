"""What the records call the code that ran."""

import subprocess

from include.contracts.code import code_version


def test_the_code_version_is_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr("include.contracts.code.ROOT", tmp_path)
    assert code_version() == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    commit = code_version()
    assert len(commit) == 12
    (tmp_path / "new").write_text("")
    assert code_version() == f"{commit}+changes"
    monkeypatch.setenv("NIGHTLY_CODE_VERSION", "1.2.3")
    assert code_version() == "1.2.3"
