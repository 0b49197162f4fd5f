"""Files that are uploaded to a cluster, and files that are not."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import caviar
from caviar.errors import SubmissionError
from caviar.submission import upload as upload_module
from caviar.submission.upload import copy_caviar, select_files, write_archive


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text("import caviar as cv\n")
    return folder


SUFFIXES = ("", ".py", ".typed", ".css", ".jinja", ".js")
"""Suffixes of the files of caviar: the others are what is built from them, or caches."""


def add(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def uploaded(folder: Path, token: str | None = None) -> set[str]:
    return set(select_files(folder / "mine.py", token=token).files)


def test_script_and_its_folder_are_uploaded(project: Path) -> None:
    add(project, "model.py", "layers/block.py", "data/small.csv")
    assert uploaded(project) == {"mine.py", "model.py", "layers/block.py", "data/small.csv"}


def test_upload_provides_caviar_and_its_metadata(project: Path, tmp_path: Path) -> None:
    write_archive(select_files(project / "mine.py"), tmp_path / "upload.zip")
    with zipfile.ZipFile(tmp_path / "upload.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    package = copy_caviar(tmp_path)
    assert not [path for path in package.rglob("*") if path.suffix not in SUFFIXES]
    code = "caviar.__file__, m.version('caviar'), m.requires('caviar')"
    printed = subprocess.run(
        [sys.executable, "-S", "-c", f"import caviar.cli.main, importlib.metadata as m; print({code})"],
        cwd=tmp_path / "unpacked",
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(package / "__init__.py") in printed
    assert caviar.__version__ in printed
    assert "optuna" in printed


def test_equal_files_make_equal_archives(project: Path, tmp_path: Path) -> None:
    write_archive(select_files(project / "mine.py"), tmp_path / "one.zip")
    (project / "mine.py").touch()
    write_archive(select_files(project / "mine.py"), tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        *(
            ".env",
            ".env.local",
            "server.pem",
            "tls.key",
            "id_rsa",
            "id_ed25519.pub",
            ".aws/config",
            ".ssh/config",
        ),
        *(
            "credentials",
            "credentials.json",
            "gcp-credentials.json",
            "service-account.json",
            "service_account_2.json",
        ),
        *(
            "token",
            "auth_token",
            "hf.token",
            "token.txt",
            "secrets.py",
            "secrets.yaml",
            ".netrc",
            "kubeconfig",
            "A.PEM",
            "krb5.keytab",
        ),
        *("tokens.json", "api-tokens.yaml", "password.txt", "db_passwords.csv", ".passwd-s3fs", "passphrase"),
        *("api_key.txt", "openai-apikeys.json", "access_key", "aws_access_key_id.txt", "private-key.json"),
        *(
            "kaggle.json",
            ".boto",
            ".s3cfg",
            ".databrickscfg",
            ".my.cnf",
            ".dockercfg",
            "rclone.conf",
            "a.tfvars",
            "terraform.tfstate",
            ".kaggle/x",
        ),
    ],
)
def test_secret_names_are_excluded_and_listed(project: Path, name: str) -> None:
    add(project, name)
    assert uploaded(project) == {"mine.py"}
    assert select_files(project / "mine.py").secrets == [name.split("/")[0]]


@pytest.mark.parametrize(
    "name",
    [
        "token.py",
        "tokenizer.json",
        "tokens.npy",
        "tokens.txt",
        "password.py",
        "passwordless.md",
        "monkey.py",
        "keys.csv",
        ".env.example",
        "credential_model.py",
    ],
)
def test_harmless_names_are_uploaded(project: Path, name: str) -> None:
    add(project, name)
    assert uploaded(project) == {"mine.py", name}


def test_files_with_secret_content_are_excluded(project: Path) -> None:
    add(project, "notes.md", content="-----BEGIN OPENSSH PRIVATE KEY-----\nabc")
    add(project, "settings.toml", content="ray = 'c0ffee'")
    assert uploaded(project, token="c0ffee") == {"mine.py"}
    assert uploaded(project, token="another") == {"mine.py", "settings.toml"}
    add(project, "mine.py", content="token = 'c0ffee'")
    with pytest.raises(SubmissionError, match=r"mine.py .*token of the cluster"):
        select_files(project / "mine.py", token="c0ffee")


def test_runs_environments_and_caches_are_excluded(project: Path) -> None:
    add(project, "runs/one/study.json", "runs/one/trials/part-0.parquet", "runs/notes.md")
    add(project, ".git/config", ".venv/bin/x", "py311/pyvenv.cfg", "py311/lib/y.py", "__pycache__/z.pyc")
    add(project, ".mypy_cache/a", "mine.egg-info/b", "node_modules/c.js")
    assert uploaded(project) == {"mine.py", "runs/notes.md"}


def test_innermost_ignore_file_decides(project: Path) -> None:
    add(project, ".gitignore", content="*.npz\n/build/\n")
    add(project, ".rayignore", content="figures\n")
    add(project, "a.npz", "build/b.py", "deep/build/c.py", "figures/d.png", "deep/e.npz")
    add(project, "deep/.gitignore", content="!e.npz\n")
    assert uploaded(project) == {
        "mine.py",
        ".gitignore",
        ".rayignore",
        "deep/.gitignore",
        "deep/build/c.py",
        "deep/e.npz",
    }


def test_ignore_file_of_the_repository_applies_to_subfolders(tmp_path: Path) -> None:
    add(
        tmp_path,
        ".git/HEAD",
        "experiments/mine.py",
        "experiments/big.npz",
        "scratch/mine.py",
        "scratch/other.py",
    )
    add(tmp_path, ".gitignore", content="*.npz\nscratch/\n")
    assert uploaded(tmp_path / "experiments") == {"mine.py"}
    assert uploaded(tmp_path / "scratch") == {"mine.py", "other.py"}, (
        "a folder named on the command line is wanted"
    )


def test_links_out_of_the_folder_are_refused(project: Path, tmp_path: Path) -> None:
    add(project, "deep/model.py")
    (project / "model.py").symlink_to("deep/model.py")
    (project / "again").symlink_to("deep")
    (project / "deep" / "round").symlink_to("..")
    assert uploaded(project) == {"mine.py", "deep/model.py", "model.py", "again/model.py"}
    add(tmp_path, "elsewhere/data.csv")
    (project / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SubmissionError, match=r"data is a link to .*elsewhere"):
        select_files(project / "mine.py")
    add(project, ".gitignore", content="data\n")
    assert "data" not in uploaded(project)


def test_targets_of_links_must_pass_the_rules(project: Path) -> None:
    add(project, ".env", "secrets/a.txt", "runs/one/study.json", "runs/one/trials.csv")
    add(project, ".gitignore", content="*.npz\n/deep/private/\n/kept\n")
    add(project, "deep/.gitignore", content="own.csv\n")
    add(project, "deep/model.py", "deep/own.csv", "deep/private/b.txt", "big.npz", "kept/c.txt")
    leads_to = {
        "settings.txt": ".env",
        "keys": "secrets",
        "key.txt": "secrets/a.txt",
        "trials.csv": "runs/one/trials.csv",
        "numbers": "big.npz",
        "table": "deep/own.csv",
        "note": "deep/private/b.txt",
        "stay": "kept",
        "again": "deep",
    }
    for name, target in leads_to.items():
        (project / name).symlink_to(target)
    upload = select_files(project / "mine.py")
    assert set(upload.files) == {
        "mine.py",
        ".gitignore",
        "deep/.gitignore",
        "deep/model.py",
        "again/.gitignore",
        "again/model.py",
    }
    assert set(leads_to) - {"again"} <= set(upload.excluded)
    assert upload.excluded["again/private"].endswith("(link to deep/private)")
    assert upload.excluded["settings.txt"].endswith("(link to .env)")
    assert {"settings.txt", "keys", "key.txt"} <= set(upload.secrets)


def test_large_folders_are_refused_and_largest_files_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "MAX_BYTES", 2 * 2**20)
    add(project, "data/train.bin", content="x" * 3 * 2**20)
    add(project, "data/test.bin", content="x" * 2**20)
    with pytest.raises(SubmissionError, match=r"data/train.bin \(3.0 MiB\), data/test.bin \(1.0 MiB\)"):
        select_files(project / "mine.py")
    monkeypatch.setattr(upload_module, "MAX_FILES", 2)
    with pytest.raises(SubmissionError, match="more than 2 files"):
        select_files(project / "mine.py")


def test_home_folder_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    with pytest.raises(SubmissionError, match="a folder of its own"):
        select_files(project / "mine.py")


def test_folder_option_must_contain_the_script(project: Path) -> None:
    add(project, "experiments/mine.py")
    upload = select_files(project / "experiments" / "mine.py", project)
    assert str(upload.script) == "experiments/mine.py"
    assert {"mine.py", "experiments/mine.py"} <= set(upload.files)
    with pytest.raises(SubmissionError, match="--folder"):
        select_files(project / "mine.py", project / "experiments")


def test_script_in_an_excluded_folder_is_refused(project: Path) -> None:
    add(project, ".gitignore", content="build\n")
    add(project, "build/mine.py")
    assert uploaded(project / "build") == {"mine.py"}
    with pytest.raises(SubmissionError, match=r"build/mine.py is in a folder .*\.gitignore"):
        select_files(project / "build" / "mine.py", project)


def test_another_caviar_in_the_folder_is_refused(project: Path) -> None:
    (project / "caviar").symlink_to("other")
    add(project, "other/__init__.py")
    with pytest.raises(SubmissionError, match="another caviar"):
        select_files(project / "mine.py")


def test_caviars_own_repository_does_not_upload_it_twice() -> None:
    root = Path(caviar.__file__).parents[1]
    files = select_files(root / "experiments" / "function.py", root).files
    assert "experiments/function.py" in files
    assert not [name for name in files if name.startswith("caviar/")]
