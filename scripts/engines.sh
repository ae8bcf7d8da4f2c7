#!/bin/sh
# Unpacks the newer engines of the test matrix from Debian's own packages, beside the system (nothing is installed):
# MySQL 9.7 (mysqld) and memcached 1.6.45 (knows the E flag). About 15 s and 500 MB the first time, at once after that.
#
#   scripts/engines.sh [FOLDER]     default: $WHITEHOLE_ENGINES, else ~/.cache/whitehole-engines
#
# Leaves FOLDER/bin/{mysqld,memcached}: wrappers that run each program with its own loader and libraries.
set -eu
to=${1:-${WHITEHOLE_ENGINES:-$HOME/.cache/whitehole-engines}}
[ -x "$to/bin/mysqld" ] && [ -x "$to/bin/memcached" ] && { echo "$to"; exit 0; }
command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1 || {
  echo "engines: apt-get and dpkg-deb are needed to unpack MySQL 9.7 and memcached 1.6.45" >&2; exit 2; }
[ "$(dpkg --print-architecture)" = amd64 ] || { echo "engines: only amd64 is prepared" >&2; exit 2; }

mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
[ -n "$mirror" ] || mirror=$(awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i !~ /^\[/ && $i !~ /=|\]$/) { print $i; exit } }' /etc/apt/sources.list)
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
root=$to/sid
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$root" "$to/bin"
: >"$work/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
set -- -qq -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- \
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::State::status=$work/status" -o Debug::NoLocking=1
apt-get "$@" update >/dev/null
apt-get "$@" -y --no-install-recommends --download-only install mysql-server-core memcached >/dev/null
for deb in "$work"/cache/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done

wrap() { # NAME PROGRAM [OPTION...]: the options follow the caller's, whose --no-defaults must come first
  name=$1 program=$2; shift 2
  cat >"$to/bin/$name.new" <<W
#!/bin/sh
r=$root; l=\$r/usr/lib/x86_64-linux-gnu
exec "\$l/ld-linux-x86-64.so.2" --library-path "\$l:\$r/usr/lib:\$r/usr/lib/mysql/private" "\$r/$program" "\$@" $*
W
  chmod +x "$to/bin/$name.new"; mv "$to/bin/$name.new" "$to/bin/$name"
}
wrap memcached usr/bin/memcached
wrap mysqld usr/sbin/mysqld "--basedir=$root/usr" "--plugin-dir=$root/usr/lib/mysql/plugin" \
  "--lc-messages-dir=$root/usr/share/mysql" --secure-file-priv=NULL
echo "$to"
