"""Rules for files that are not uploaded: secrets, run directories, tools and caches, and what .gitignore names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from pathspec import GitIgnoreSpec

TOOL_NAMES = (
    *(".git", ".hg", ".svn", ".venv", "venv", "__pycache__", "node_modules", "*.egg-info", ".eggs", "*.pyc"),
    *(".*_cache", ".cache", ".hypothesis", ".ipynb_checkpoints", ".tox", ".nox"),
    *(".idea", ".vscode", ".ds_store"),
)
SECRET_NAMES = (
    *(".env", ".env.*", ".envrc", ".netrc", "_netrc", ".pgpass", ".pypirc", ".npmrc", ".htpasswd"),
    *(".git-credentials", ".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".ray", ".kaggle", ".oci"),
    *(".boto", ".s3cfg", ".databrickscfg", ".dockercfg", ".my.cnf", ".mylogin.cnf", ".passwd-s3fs"),
    *(
        ".terraformrc",
        "kaggle.json",
        "rclone.conf",
        "*.tfvars",
        "*.tfvars.json",
        "*.tfstate",
        "*.tfstate.backup",
    ),
    *("*.pem", "*.key", "*.p8", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.keytab", "*.ppk", "*.kdbx"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "kubeconfig", "*.kubeconfig", "secrets.py"),
)
SECRET_WORDS = re.compile(
    r"(.*[_.-])?("
    r"(credentials?|secrets?|token|passwords?|passwd|passphrases?|service[_-]account[\w-]*"
    r"|api[_-]?keys?|(secret[_-]?)?(access|private)[_-]?keys?([_-]id)?)(\.(?!py$)\w+)?"
    r"|tokens\.(json|ya?ml|toml|ini|cfg|conf|env))"
)
"""Names such as `auth_token` and `gcp-credentials.json`, but not `token.py`, `tokenizer.json` or `tokens.txt`."""
TEMPLATE_NAMES = (".env.example", ".env.sample", ".env.template")
"""Names that look secret and are not."""
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
IGNORE_FILES = (".gitignore", ".rayignore")


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """Rules of the ignore files in one folder, for all paths below it."""

    folder: Path
    spec: GitIgnoreSpec

    def excludes(self, path: Path, is_folder: bool) -> bool | None:
        """Return True to exclude a path, False to include it after all, None if no rule matches it."""
        name = path.relative_to(self.folder).as_posix()
        return self.spec.check_file(f"{name}/" if is_folder else name).include


def find_exclusion(path: Path, is_folder: bool, rules: Sequence[IgnoreRules]) -> str | None:
    """Return why a file or folder is not uploaded, in a few words; None if it is.

    Args:
        path: the file or folder.
        is_folder: True for a folder.
        rules: ignore rules of the folders above it, from the outermost to the innermost, which decides.
    """
    name = path.name.lower()
    if _matches(name, TOOL_NAMES) or (is_folder and (path / "pyvenv.cfg").is_file()):
        return "tool or cache"
    if not _matches(name, TEMPLATE_NAMES) and (_matches(name, SECRET_NAMES) or SECRET_WORDS.fullmatch(name)):
        return "secret, by its name"
    if is_folder and (path / "study.json").is_file():
        return "run directory"
    decisions = [d for each in rules if (d := each.excludes(path, is_folder)) is not None]
    return "named in .gitignore or .rayignore" if decisions and decisions[-1] else None


def find_secret(content: bytes, token: str | None) -> str | None:
    """Return which secret a file contains, in a few words; None if none is found.

    Args:
        content: content of the file.
        token: token of the cluster; None if it has none.
    """
    if token and token.encode() in content:
        return "secret: contains the token of the cluster"
    return "secret: contains a private key" if PRIVATE_KEY.search(content) else None


def read_ignore_rules(folder: Path) -> tuple[IgnoreRules, ...]:
    """Return the rules of the ignore files in a folder: one object, or none if it has no ignore files."""
    lines: list[str] = []
    for name in IGNORE_FILES:
        if (folder / name).is_file():
            lines += (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
    return (IgnoreRules(folder, GitIgnoreSpec.from_lines(lines)),) if lines else ()


def read_ignore_rules_above(folder: Path) -> tuple[IgnoreRules, ...]:
    """Return the ignore rules between the root of a Git repository and a folder in it, the root's first.

    Rules that exclude the folder itself are left out: whoever names an ignored folder wants its content.
    """
    above = list(folder.parents)
    if (folder / ".git").exists() or not any((parent / ".git").exists() for parent in above):
        return ()
    found: tuple[IgnoreRules, ...] = ()
    for parent in above:
        found = (*read_ignore_rules(parent), *found)
        if (parent / ".git").exists():
            break
    return tuple(rules for rules in found if not rules.excludes(folder, is_folder=True))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
