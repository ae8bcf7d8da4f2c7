#!/bin/sh
# Makes whitehole_<version>_all.deb: what the npm package has, with the production packages of the lock file.
#
#   scripts/deb.sh [--version V] [FOLDER]      default: the version of package.json, into the current folder
#
# Needs npm (its registry or cache) and dpkg-deb. The same sources give the same contents; SOURCE_DATE_EPOCH fixes the times too.
set -eu
home=$(cd "$(dirname "$0")/.." && pwd)
version=$(cd "$home" && node -p 'require("./package.json").version')
to=.
while [ $# -gt 0 ]; do
  case $1 in
    --version) version=$2; shift 2 ;;
    -*) echo "deb: unknown option $1 (known: --version V)" >&2; exit 64 ;;
    *) to=$1; shift ;;
  esac
done
command -v dpkg-deb >/dev/null 2>&1 || { echo "deb: dpkg-deb is needed (Debian package dpkg)" >&2; exit 2; }
to=$(cd "$to" && pwd)
: "${SOURCE_DATE_EPOCH:=$(git -C "$home" log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
sh "$home/scripts/build.sh"
mkdir "$work/package"
tar -C "$home" --exclude='*.map' --exclude='dist/.*' -c bin dist sql docs packaging package.json package-lock.json README.md CHANGELOG.md LICENSE |
  tar -x -C "$work/package"
(cd "$work/package" && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --prefer-offline --loglevel=error)

root=$work/root
lib=$root/usr/lib/whitehole doc=$root/usr/share/doc/whitehole
mkdir -p "$lib" "$doc" "$root/usr/bin" "$root/usr/lib/systemd/system" "$root/etc/whitehole" "$root/etc/default" "$root/etc/init.d" "$root/DEBIAN"
cd "$work/package"
cp -R bin dist sql package.json node_modules "$lib/"
# What only a developer of those packages reads.
find "$lib/node_modules" \( -name '*.map' -o -name '*.ts' -o -name '*.md' -o -name '.package-lock.json' -o -name '.github' \
  -o -name test -path '*/node_modules/*/test' -o -name tests -path '*/node_modules/*/tests' -o -name benchmark \) \
  ! -iname 'license*' -prune -exec rm -rf {} +
cp -R packaging "$lib/packaging"
rm -rf "$lib/packaging/deb"
ln -s ../lib/whitehole/bin/whitehole "$root/usr/bin/whitehole"
chmod 755 "$lib/bin/whitehole"
install -m 644 packaging/systemd/*.service "$root/usr/lib/systemd/system/"
install -m 644 packaging/etc/node.yaml "$root/etc/whitehole/node.yaml"
install -m 644 packaging/etc/default-memcached "$root/etc/default/whitehole-memcached"
for daemon in node monitor; do
  sed "s/@DAEMON@/$daemon/g" packaging/init.d/whitehole >"$root/etc/init.d/whitehole-$daemon"
  chmod 755 "$root/etc/init.d/whitehole-$daemon"
done
cp -R README.md docs/* "$doc/"
cp LICENSE "$doc/copyright"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
chmod -R u=rwX,go=rX "$root"

for script in postinst prerm postrm; do install -m 755 packaging/deb/$script "$root/DEBIAN/$script"; done
install -m 644 packaging/deb/conffiles "$root/DEBIAN/conffiles"
size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@SIZE@/$size/" packaging/deb/control >"$root/DEBIAN/control"
find "$root" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$root" "$to/whitehole_${version}_all.deb" >/dev/null
echo "$to/whitehole_${version}_all.deb"
