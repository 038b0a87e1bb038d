#!/bin/sh
# build.sh STAGE VERSION TO: a Debian package of what `make install DESTDIR=STAGE` wrote, for the Slurm of this host.
set -eu
stage=$1 version=$2 to=$3
here=$(dirname "$0")
umask 022

plugin=$(cd "$stage" && find . -name gpushare.so)
folder=$(dirname "${plugin#.}")
# Slurm loads plugins of its own major.minor alone.
slurm=$("$here/../slurm-version.sh" "${SLURM_INCLUDE:-/usr/include}")
next=${slurm%.*}.$(printf %02d $((1${slurm#*.} - 99)))
arch=$(dpkg --print-architecture)

depends="python$(sed -n 's/^version = \([0-9]*\.[0-9]*\).*/\1/p' "$stage/opt/gpushare/pyvenv.cfg"), libc6 (>= $(ldd --version | sed -n '1s/.* //p'))"
# Whose the plugin's folder is; a Slurm that no package brought is the administrator's to keep.
if owner=$(dpkg-query --search "$folder/auth_munge.so" 2>/dev/null); then
    owner=${owner%%:*}
    depends="$owner (>= $slurm), $owner (<< $next~), $depends"
fi

strip --strip-unneeded --remove-section=.comment --remove-section=.note "$stage/$plugin"
find "$stage" -type d -exec chmod 0755 {} +
install -D -m 0644 "$here/copyright" "$stage/usr/share/doc/slurm-gpushare/copyright"
install -D -m 0644 "$here/lintian-overrides" "$stage/usr/share/lintian/overrides/slurm-gpushare"
mkdir -p "$stage/DEBIAN" "$stage/usr/bin"
# What is found by its place: the command, its manuals and what the shell completes.
ln -s /opt/gpushare/bin/gpushare "$stage/usr/bin/gpushare"
(cd "$stage/opt/gpushare/share" && find man bash-completion -type f) | while read -r file; do
    mkdir -p "$stage/usr/share/$(dirname "$file")"
    ln -s "/opt/gpushare/share/$file" "$stage/usr/share/$file"
done
sed -e "s/@VERSION@/$version+slurm$slurm/; s/@SLURM@/$slurm/; s/@ARCH@/$arch/; s/@DEPENDS@/$depends/" \
    -e "s/@MAINTAINER@/${DEBFULLNAME:-Administrators of this cluster} <${DEBEMAIL:-root@localhost}>/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$stage" | cut -f1)/" "$here/control.in" >"$stage/DEBIAN/control"
(cd "$stage" && find etc -type f | sed 's|^|/|' | sort) >"$stage/DEBIAN/conffiles"
install -m 0755 "$here/postinst" "$here/prerm" "$here/postrm" "$stage/DEBIAN/"
install -m 0755 "$here/../in-use.sh" "$stage/opt/gpushare/share/gpushare/"
(cd "$stage" && find . -path ./DEBIAN -prune -o -path ./etc -prune -o -type f -printf '%P\0' | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
mkdir -p "$to"
file=$to/slurm-gpushare_$version+slurm${slurm}_$arch.deb
dpkg-deb --root-owner-group -Zgzip -z1 --build "$stage" "$file"
