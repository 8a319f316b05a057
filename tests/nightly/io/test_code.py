"""What the records call the code that ran."""

import subprocess

from nightly.io.code import code_version, sources_of


def test_the_code_version_is_the_commit_and_whether_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr("nightly.io.code.ROOT", tmp_path)
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


def test_the_sources_of_a_function_are_all_it_can_reach_by_import_or_by_name(tmp_path):
    files = {
        "include/nightly/__init__.py": "",
        "include/models/taxi/model.py": "from nightly.steps.first import function\n",
        "include/nightly/steps/__init__.py": "",
        "include/nightly/steps/first.py": "from nightly.steps import second\nimport numpy\n",
        "include/nightly/steps/second.py": "from . import third\nfrom ..other import f\nrun('-m', 'nightly.probe')\n",
        "include/nightly/steps/third.py": "def broken(:\n",
        "include/nightly/other.py": '"""nightly.steps.unread, in prose"""\n',
        "include/nightly/probe.py": "",
        "include/nightly/steps/unread.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    names = ["include.models.taxi.model.run_fn", "tfx.components", "no name"]
    before = sources_of(names, tmp_path)
    assert set(before) == set(files) - {"include/nightly/steps/unread.py"}
    (tmp_path / "include/nightly/probe.py").write_text("changed")
    after = sources_of(names, tmp_path)
    assert {name for name in after if before[name] != after[name]} == {"include/nightly/probe.py"}
