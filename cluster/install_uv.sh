#!/usr/bin/env bash
# Install uv in ~/.local/bin, unless there is one. The files for `ray up` run this script on each machine.
#
# The package comes from PyPI and is used only if it has the checksum written here. For another version, take addresses
# and checksums from https://pypi.org/project/uv/#files.
set -euo pipefail

if [ -x ~/.local/bin/uv ]; then exit 0; fi

version=0.13.9
case $(uname -m) in
  x86_64)
    package=3d/aa/26d64642d808de4a652579ef950d7cd2d37f080a8babf9c67c6b75fc4c3f/uv-$version-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
    checksum=d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19
    ;;
  aarch64)
    package=57/15/94b6cd62ac3ff6550288328e8035288875197cbc183f51554b266a69877b/uv-$version-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl
    checksum=5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe
    ;;
  *)
    echo "install_uv.sh: no checksum is known for $(uname -m): install uv in ~/.local/bin yourself" >&2
    exit 1
    ;;
esac

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
curl --fail --silent --show-error --location --retry 5 --output uv.whl "https://files.pythonhosted.org/packages/$package"
echo "$checksum  uv.whl" | sha256sum --check --quiet
python3 -m zipfile --extract uv.whl .
install -D --mode 755 "uv-$version.data/scripts/uv" ~/.local/bin/uv
