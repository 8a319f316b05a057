"""A private, newer C runtime for the ML environment, where the system's is too old for TFDV.

TFDV 1.21.0's wheel needs GLIBC_2.38 and GLIBCXX_3.4.32. Debian 12, Ubuntu 22.04 and the official Airflow images
are older. There, libc6, libstdc++6 and libgcc-s1 of the distribution's next release are unpacked beside the
environments, and the ML environment's own copy of the Python interpreter is relinked to load them. The system is not
changed: no package is installed, and no source is added. If glibc is new enough, nothing is done.
"""

import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setup.errors import SetupError

NEEDED = (2, 38)
NEXT_RELEASE = {"debian": "trixie", "ubuntu": "noble"}
PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")
KEYRINGS = {
    "debian": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
}
# Named on the interpreter itself, so that the private ones come first and everything loaded later shares them.
PRELOADED = ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")


def is_needed() -> bool:
    """Return whether the system's glibc is too old; never on macOS, which has another C library."""
    library, version = platform.libc_ver()
    return library == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < NEEDED


def fetch(cache: Path) -> None:
    """Download and unpack the packages; `cache` appears only when it is whole. Errors are SetupError."""
    if cache.exists():
        return
    print(f"glibc here is {platform.libc_ver()[1]}, TFDV needs 2.38: fetching a private one", flush=True)
    system = platform.freedesktop_os_release()
    family = next((name for name in [system["ID"], *system.get("ID_LIKE", "").split()] if name in NEXT_RELEASE), None)
    if family is None or not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise SetupError(
            f"{system.get('PRETTY_NAME', 'this system')} has glibc {platform.libc_ver()[1]} and no apt-get to "
            "download a newer one; TFDV needs 2.38. Use the Dockerfile, or a newer release of the distribution."
        )
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="c-runtime-") as temporary:
        work = Path(temporary)
        refusals = []
        for mirror in _mirrors(system.get("VERSION_CODENAME", "")):
            refusal = _fetch(mirror, family, work)
            if refusal is None:
                break
            refusals.append(f"{mirror}: {refusal}")
        else:
            raise SetupError(
                f"no mirror of this system has {', '.join(PACKAGES)} of {NEXT_RELEASE[family]}: "
                + ("; ".join(refusals) or "`apt-get update --print-uris` lists no source of this system's release")
            )
        for package in work.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True)
        libraries = work / "whole" / "lib"
        libraries.mkdir(parents=True)
        for folder in (work / "root/lib/x86_64-linux-gnu", work / "root/usr/lib/x86_64-linux-gnu"):
            for library in folder.glob("*.so*") if folder.exists() else ():
                shutil.copy2(library, libraries / library.name, follow_symlinks=True)
        (work / "whole").rename(cache)


def _mirrors(codename: str) -> list[str]:
    """Return the addresses that this system takes its own release from, in apt's order.

    `apt-get indextargets` would print nothing where the package lists were deleted, as in most container images.
    """
    printed = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True).stdout
    return list(dict.fromkeys(re.findall(rf"^'(\S+)/dists/{codename}/InRelease'", printed, re.M)))


def _fetch(mirror: str, family: str, work: Path) -> str | None:
    """Download the packages into `work` with a separate sources list; return None, or why it failed."""
    signed = f"[signed-by={KEYRINGS[family]}] " if Path(KEYRINGS[family]).exists() else ""
    (work / "sources.list").write_text(f"deb {signed}{mirror} {NEXT_RELEASE[family]} main\n")
    for folder in ("lists/partial", "archives/partial", "state"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "state/status").touch()
    options = {
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "state/status",
        "Dir::Cache::Archives": work / "archives",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "",
    }
    flags = [flag for key, value in options.items() for flag in ("-o", f"{key}={value}")]
    for command in (["update", "-qq"], ["download", "-qq", *PACKAGES]):
        done = subprocess.run(["apt-get", *flags, *command], cwd=work, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip() or done.stdout.strip()).replace("\n", " ")
    return None


def relink(python: Path, cache: Path, patchelf: str) -> None:
    """Replace `python` by a copy of the base interpreter that loads the libraries of `cache` first."""
    libraries = cache / "lib"
    base = Path(sysconfig.get_config_var("BINDIR")) / f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = base if base.exists() else Path(sys.executable).resolve()
    copy = python.with_name("python.new")
    shutil.copy2(base.resolve(), copy)
    search = f"{libraries}:{sysconfig.get_config_var('LIBDIR')}:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu"
    command = [
        patchelf,
        "--set-interpreter",
        libraries / "ld-linux-x86-64.so.2",
        "--force-rpath",
        "--set-rpath",
        search,
    ]
    for library in PRELOADED:
        command += ["--add-needed", library]
    done = subprocess.run([*command, copy], capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"patchelf could not relink {base}: {done.stderr.strip()}")
    copy.replace(python)
