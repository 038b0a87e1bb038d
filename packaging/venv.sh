#!/bin/sh
# venv.sh PYTHON DESTDIR PREFIX EXTRAS: the project's Python environment, the one folder DESTDIR/PREFIX.
#
# Nothing in it names DESTDIR, so that a package can be made of it. pip finds what it needs as it is configured
# (pip.conf, PIP_INDEX_URL; PIP_NO_INDEX and PIP_FIND_LINKS where there is no network).
set -eu
python=$1 destdir=$2 prefix=$3 extras=$4
root=$destdir$prefix

if [ ! -e "$root/pyvenv.cfg" ] && [ -n "$(ls -A "$root" 2>/dev/null)" ]; then
    echo "gpushare: PREFIX=$prefix holds files of others: write a folder of its own, such as PREFIX=$prefix/gpushare" >&2
    exit 1
fi
# The interpreter by its own version: python3 may become another one.
python=$(readlink -f "$(command -v "$python")")
"$root/bin/python3" -c '' 2>/dev/null || "$python" -m venv --clear "$root"
"$root/bin/python3" -c 'import pip' 2>/dev/null || "$python" -m venv "$root"
pip="$root/bin/python3 -m pip --disable-pip-version-check"
# Of its own accord it makes wheels from 70.1 on; Debian 12 puts an older one into each environment.
"$root/bin/python3" -c 'import setuptools.command.bdist_wheel' 2>/dev/null || $pip install --quiet --upgrade 'setuptools>=70.1'
# What setuptools left of an earlier build would be installed again, with modules that are no more.
rm -rf build/lib build/bdist.*
$pip install --quiet --no-warn-script-location --no-compile --no-build-isolation ".${extras:+[$extras]}"
if [ -n "$destdir" ]; then
    # Nothing is installed into it any more.
    $pip uninstall --quiet --yes setuptools pip 2>/dev/null
    find "$root/bin" -type f ! -name gpushare -delete
    rm -rf "$root/include" "$root/.gitignore" "$root"/lib/python*/site-packages/slurm_gpushare-*.dist-info/direct_url.json
    grep -rlIF "$root" "$root/bin" "$root/pyvenv.cfg" | xargs -r sed -i "s|$root|$prefix|g"
fi
if [ "$prefix" != /opt/gpushare ]; then
    sed -i "s|/opt/gpushare|$prefix|g" "$root"/lib/python*/site-packages/slurm_gpushare/paths.py
fi
"$root/bin/python3" -m compileall -q -j 0 ${destdir:+-s "$destdir"} "$root"/lib/python*/site-packages
