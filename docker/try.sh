#!/usr/bin/env bash
# Build an image and run a study in it, without Docker. Run it as root on Debian with buildah and debootstrap installed.
#
#   docker/try.sh [cpu|gpu]      (default: cpu)
#
# The base image is Debian, and pip first downloads all packages to a folder: the build needs no network but Debian's
# mirror. So both images have the torch that pip finds on this machine.
set -euo pipefail
target=${1:-cpu}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
image=caviar-try-$$:$target
STORAGE_DRIVER=vfs # works everywhere, but copies everything at each step
if grep -qw overlay /proc/filesystems; then STORAGE_DRIVER=overlay; fi
export STORAGE_DRIVER BUILDAH_ISOLATION=chroot CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "%s"\ngraphroot = "%s"\nrunroot = "%s"\n' \
  "$STORAGE_DRIVER" "$work/graph" "$work/run" > "$CONTAINERS_STORAGE_CONF"
printf '[global]\nno-index = true\nfind-links = /wheels\n' > "$work/pip.conf"

clean() {
  buildah rm --all > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT

report() { printf '%5ds  %s\n' "$SECONDS" "$1"; }

report "packages"
mkdir "$work/wheels"
python3 -m pip download --quiet --dest "$work/wheels" -c "$root/constraints.txt" -c "$root/docker/pins.txt" "$root" hatchling

report "base image"
# shellcheck disable=SC2016 # apt-get replaces it
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Component: main' 'Created-By: Packages' | head -1)
debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
  bookworm "$work/base" "$mirror" > "$work/debootstrap.log" || { tail "$work/debootstrap.log"; exit 1; }
rm -rf "$work/base/var/cache/apt/archives"/*.deb
tar -C "$work/base" -cf "$work/base.tar" . && rm -rf "$work/base"
printf 'FROM scratch\nADD base.tar /\n' | buildah build --quiet --tag caviar-base --file - "$work" > /dev/null
rm "$work/base.tar"

report "image"
buildah build --quiet --layers=false --file "$root/docker/Dockerfile" --ignorefile "$root/docker/Dockerfile.dockerignore" \
  --target "$target" --build-arg BASE=localhost/caviar-base --volume "$work/wheels:/wheels:ro" \
  --secret "id=pip,src=$work/pip.conf" --tag "$image" "$root"
rm -rf "$work/wheels"

report "study"
container=$(buildah from "$image")
inside() { buildah run --volume "$root/experiments:/experiments:ro" "$container" -- "$@"; }
inside tini --version
inside caviar --version
# The user has no privileges, and the image contains neither pip's configuration, nor sources, nor a token.
# shellcheck disable=SC2016 # the shell in the container replaces it
inside sh -c 'test "$(id -u)" = 1000 && test ! -s /etc/pip.conf && test ! -e /src && test -z "${RAY_AUTH_TOKEN:-}"'
inside caviar run /experiments/function.py --workers 2 --runs /runs
inside python -c 'import caviar; run = caviar.load("/runs/function"); assert run.finished; print(len(run.trials), "trials")'
report "done"
