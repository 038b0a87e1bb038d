#!/bin/sh
# build.sh VERSION TO: an RPM package of this source for the Slurm of this host. PYTHON: the interpreter, python3.
set -eu
version=$1 to=$2
here=$(cd "$(dirname "$0")" && pwd)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT

slurm=$("$here/../slurm-version.sh" "${SLURM_INCLUDE:-/usr/include}")
next=${slurm%.*}.$(printf %02d $((1${slurm#*.} - 99)))
python=$(basename "$(readlink -f "$(command -v "${PYTHON:-python3}")")")
plugins=$(ls -d /usr/lib64/slurm /usr/lib/*/slurm-wlm /usr/lib/slurm 2>/dev/null | head -n 1)

name=slurm-gpushare-$version
mkdir -p "$top/SOURCES" "$top/$name" "$to"
cp -R LICENSE Makefile README.md pyproject.toml docs etc job_scripts packaging slurm_gpushare spank "$top/$name/"
find "$top/$name" -name __pycache__ -type d -prune -exec rm -rf {} +
tar -C "$top" -czf "$top/SOURCES/$name.tar.gz" "$name"
rpmbuild -bb --define "_topdir $top" --define "_version $version" --define "_slurm $slurm" \
    --define "_slurm_next $next" --define "_python /usr/bin/$python" ${plugins:+--define "_slurm_plugins $plugins"} \
    ${RPMBUILD_FLAGS:-} "$here/slurm-gpushare.spec"
find "$top/RPMS" -name '*.rpm' -exec cp {} "$to/" \;
ls "$to"/*.rpm
