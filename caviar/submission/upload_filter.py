"""What never leaves this machine: secrets, run directories, litter, and what .gitignore names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pathspec import GitIgnoreSpec

LITTER = (
    *(".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules", "*.egg-info", ".eggs", "*.pyc"),
    *(
        ".*_cache",
        ".cache",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".tox",
        ".nox",
        ".idea",
        ".vscode",
        ".DS_Store",
    ),
)
SECRETS = (
    *(".env", ".env.*", ".envrc", ".netrc", "_netrc", ".pgpass", ".pypirc", ".npmrc", ".htpasswd"),
    *(".git-credentials", ".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".ray", ".kaggle", ".oci"),
    *(
        ".boto",
        ".s3cfg",
        ".databrickscfg",
        ".dockercfg",
        ".my.cnf",
        ".mylogin.cnf",
        ".passwd-s3fs",
        ".terraformrc",
    ),
    *("kaggle.json", "rclone.conf", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.backup"),
    *("*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.keytab", "*.ppk", "*.kdbx"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "kubeconfig", "*.kubeconfig", "secrets.py"),
)
SECRET_WORDS = re.compile(
    r"(.*[_.-])?("
    r"(credentials?|secrets?|token|passwords?|passwd|passphrases?|service[_-]account[\w-]*"
    r"|api[_-]?keys?|(secret[_-]?)?(access|private)[_-]?keys?([_-]id)?)(\.(?!py$)\w+)?"
    r"|tokens\.(json|ya?ml|toml|ini|cfg|conf|env))"
)
"""Names such as `auth_token` and `gcp-credentials.json`; but `token.py`, `tokenizer.json` and `tokens.txt`, a
vocabulary, are none."""
HARMLESS = (".env.example", ".env.sample", ".env.template")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
IGNORE_FILES = (".gitignore", ".rayignore")


@dataclass(frozen=True, slots=True)
class Ignore:
    """What the ignore files of one folder say of all below it."""

    folder: Path
    spec: GitIgnoreSpec

    def verdict(self, path: Path, is_folder: bool) -> bool | None:
        """True to leave out, False to send after all, None where nothing is said."""
        name = path.relative_to(self.folder).as_posix()
        return self.spec.check_file(f"{name}/" if is_folder else name).include


def reason_to_leave_out(path: Path, is_folder: bool, ignores: Sequence[Ignore]) -> str | None:
    """Why a file or folder is not sent, in a few words; None if it is.

    Args:
        path: where it is.
        is_folder: whether it is one.
        ignores: of the folders above it, the nearest last: that one has the last word.
    """
    name = path.name.lower()
    if _any(name, LITTER) or (is_folder and (path / "pyvenv.cfg").is_file()):
        return "tools and caches"
    if not _any(name, HARMLESS) and (_any(name, SECRETS) or SECRET_WORDS.fullmatch(name)):
        return "secret, by its name"
    if is_folder and (path / "study.json").is_file():
        return "run directory"
    said = [verdict for ignore in ignores if (verdict := ignore.verdict(path, is_folder)) is not None]
    return "ignored" if said and said[-1] else None


def secret_in(content: bytes, token: str | None) -> str | None:
    """What secret a file holds, in a few words; None if none is seen.

    Args:
        content: of the file.
        token: of the cluster.
    """
    if token and token.encode() in content:
        return "secret: the cluster's token is in it"
    return "secret: a private key is in it" if PRIVATE_KEY.search(content) else None


def read_ignores(folder: Path) -> tuple[Ignore, ...]:
    """The ignore files of one folder."""
    lines: list[str] = []
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            lines += (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
    return (Ignore(folder, GitIgnoreSpec.from_lines(lines)),) if lines else ()


def ignores_above(folder: Path) -> tuple[Ignore, ...]:
    """The ignore files between a repository's root and a folder of it, unless they name this very folder."""
    above = list(folder.parents)
    if (folder / ".git").exists() or not any((parent / ".git").exists() for parent in above):
        return ()
    found: tuple[Ignore, ...] = ()
    for parent in above:
        found = (*read_ignores(parent), *found)
        if (parent / ".git").exists():
            break
    return tuple(ignore for ignore in found if not ignore.verdict(folder, is_folder=True))


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern.lower()) for pattern in patterns)
