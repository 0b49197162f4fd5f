"""What is sent to a cluster, and what is not."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import caviar
from caviar.errors import SubmissionError
from caviar.submission import upload as parcels
from caviar.submission.upload import copy_caviar, pack, write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text("import caviar as cv\n")
    return folder


def add(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


def sent(folder: Path, token: str | None = None) -> set[str]:
    return set(pack(folder / "mine.py", token=token).files)


def test_the_script_and_its_neighbours_are_sent(project: Path) -> None:
    add(project, "model.py", "layers/block.py", "data/small.csv")
    assert sent(project) == {"mine.py", "model.py", "layers/block.py", "data/small.csv"}


def test_a_python_that_has_no_caviar_finds_it_and_what_it_requires(project: Path, tmp_path: Path) -> None:
    write(pack(project / "mine.py"), tmp_path / "sent.zip")
    with zipfile.ZipFile(tmp_path / "sent.zip") as archive:
        archive.extractall(tmp_path / "there")
    package = copy_caviar(tmp_path)
    assert not [path for path in package.rglob("*") if path.suffix not in (".py", ".typed", "")]
    asked = "caviar.__file__, m.version('caviar'), m.requires('caviar')"
    told = subprocess.run(
        [sys.executable, "-S", "-c", f"import caviar.cli.main, importlib.metadata as m; print({asked})"],
        cwd=tmp_path / "there",
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(package / "__init__.py") in told
    assert caviar.__version__ in told
    assert "optuna" in told


def test_the_same_files_make_the_same_archive(project: Path, tmp_path: Path) -> None:
    write(pack(project / "mine.py"), tmp_path / "one.zip")
    (project / "mine.py").touch()
    write(pack(project / "mine.py"), tmp_path / "two.zip")
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
def test_what_looks_secret_is_not_sent_and_named(project: Path, name: str) -> None:
    add(project, name)
    assert sent(project) == {"mine.py"}
    assert pack(project / "mine.py").secrets == [name.split("/")[0]]


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
def test_what_only_sounds_like_a_secret_is_sent(project: Path, name: str) -> None:
    add(project, name)
    assert sent(project) == {"mine.py", name}


def test_files_that_hold_a_key_or_the_clusters_token_are_not_sent(project: Path) -> None:
    add(project, "notes.md", content="-----BEGIN OPENSSH PRIVATE KEY-----\nabc")
    add(project, "settings.toml", content="ray = 'c0ffee'")
    assert sent(project, token="c0ffee") == {"mine.py"}
    assert sent(project, token="another") == {"mine.py", "settings.toml"}
    add(project, "mine.py", content="token = 'c0ffee'")
    with pytest.raises(
        SubmissionError, match=r"mine.py cannot be sent \(secret: the cluster's token is in it\)"
    ):
        pack(project / "mine.py", token="c0ffee")


def test_runs_environments_and_caches_are_not_sent(project: Path) -> None:
    add(project, "runs/one/study.json", "runs/one/trials/part-0.parquet", "runs/notes.md")
    add(project, ".git/config", ".venv/bin/x", "py311/pyvenv.cfg", "py311/lib/y.py", "__pycache__/z.pyc")
    add(project, ".mypy_cache/a", "mine.egg-info/b", "node_modules/c.js")
    assert sent(project) == {"mine.py", "runs/notes.md"}


def test_what_ignore_files_name_is_not_sent_the_nearest_having_the_last_word(project: Path) -> None:
    add(project, ".gitignore", content="*.npz\n/build/\n")
    add(project, ".rayignore", content="figures\n")
    add(project, "a.npz", "build/b.py", "deep/build/c.py", "figures/d.png", "deep/e.npz")
    add(project, "deep/.gitignore", content="!e.npz\n")
    assert sent(project) == {
        "mine.py",
        ".gitignore",
        ".rayignore",
        "deep/.gitignore",
        "deep/build/c.py",
        "deep/e.npz",
    }


def test_the_ignore_file_of_the_repository_holds_in_its_folders(tmp_path: Path) -> None:
    add(
        tmp_path,
        ".git/HEAD",
        "experiments/mine.py",
        "experiments/big.npz",
        "scratch/mine.py",
        "scratch/other.py",
    )
    add(tmp_path, ".gitignore", content="*.npz\nscratch/\n")
    assert sent(tmp_path / "experiments") == {"mine.py"}
    assert sent(tmp_path / "scratch") == {"mine.py", "other.py"}, "whoever names an ignored folder means it"


def test_links_within_the_folder_are_followed_and_those_that_leave_it_refused(
    project: Path, tmp_path: Path
) -> None:
    add(project, "deep/model.py")
    (project / "model.py").symlink_to("deep/model.py")
    (project / "again").symlink_to("deep")
    (project / "deep" / "round").symlink_to("..")
    assert sent(project) == {"mine.py", "deep/model.py", "model.py", "again/model.py"}
    add(tmp_path, "elsewhere/data.csv")
    (project / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SubmissionError, match=r"data is a link to .*elsewhere, outside of .*project"):
        pack(project / "mine.py")
    add(project, ".gitignore", content="data\n")
    assert "data" not in sent(project)


def test_a_link_takes_nothing_along_that_would_not_be_sent_from_its_own_place(project: Path) -> None:
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
    parcel = pack(project / "mine.py")
    assert set(parcel.files) == {
        "mine.py",
        ".gitignore",
        "deep/.gitignore",
        "deep/model.py",
        "again/.gitignore",
        "again/model.py",
    }
    assert set(leads_to) - {"again"} <= set(parcel.left_out)
    assert parcel.left_out["again/private"] == "ignored: it is deep/private"
    assert parcel.left_out["settings.txt"] == "secret, by its name: it is .env"
    assert {"settings.txt", "keys", "key.txt"} <= set(parcel.secrets)


def test_too_much_is_refused_with_the_names_of_the_largest(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "MOST_BYTES", 2 * 2**20)
    add(project, "data/train.bin", content="x" * 3 * 2**20)
    add(project, "data/test.bin", content="x" * 2**20)
    with pytest.raises(
        SubmissionError, match=r"the largest: data/train.bin \(3.0 MiB\), data/test.bin \(1.0 MiB\)"
    ):
        pack(project / "mine.py")
    monkeypatch.setattr(parcels, "MOST_FILES", 2)
    with pytest.raises(SubmissionError, match="holds more than 2 files"):
        pack(project / "mine.py")


def test_a_home_is_not_sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(project))
    with pytest.raises(SubmissionError, match=r"put mine.py into a folder of its own"):
        pack(project / "mine.py")


def test_a_folder_may_be_named_that_holds_the_script(project: Path) -> None:
    add(project, "experiments/mine.py")
    parcel = pack(project / "experiments" / "mine.py", project)
    assert str(parcel.script) == "experiments/mine.py"
    assert {"mine.py", "experiments/mine.py"} <= set(parcel.files)
    with pytest.raises(SubmissionError, match="--folder must hold the experiment"):
        pack(project / "mine.py", project / "experiments")


def test_a_caviar_that_is_not_this_one_stands_in_the_way(project: Path) -> None:
    (project / "caviar").symlink_to("other")
    add(project, "other/__init__.py")
    with pytest.raises(SubmissionError, match="has a caviar of its own"):
        pack(project / "mine.py")


def test_in_caviars_own_repository_the_package_is_not_sent_twice() -> None:
    root = Path(caviar.__file__).parents[1]
    files = pack(root / "experiments" / "function.py", root).files
    assert "experiments/function.py" in files
    assert not [name for name in files if name.startswith("caviar/")]
