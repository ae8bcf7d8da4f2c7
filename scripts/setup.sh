#!/bin/sh
# Sets up what is missing on this machine: npm packages, the build and, as root on Debian, the server programs.
#
#   scripts/setup.sh [--test]
#
# --test adds what the tests need: libmemcached-tools, pymemcache with its tests, the clients of examples/ (PHP, Django, Perl), systemd, haproxy and keepalived, and the newer engines of scripts/engines.sh.
# No system service is needed, started or touched. When nothing is missing it takes a second.
set -eu
cd "$(dirname "$0")/.."

for_tests=no
for arg in "$@"; do
  case $arg in
    --test) for_tests=yes ;;
    *) echo "setup: unknown option $arg (known: --test)" >&2; exit 64 ;;
  esac
done

fail() { echo "setup: $*" >&2; exit 2; }

# ---- Node ----------------------------------------------------------------------------------------------------------
command -v node >/dev/null 2>&1 || fail "Node.js 20.19 or later is needed, and there is no node on the PATH"
node -e '
  const [major, minor] = process.versions.node.split(".").map(Number)
  process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)
' || fail "Node.js 20.19 or later is needed, this is $(node --version) ($(command -v node))"
command -v npm >/dev/null 2>&1 || fail "npm is needed, and is not on the PATH"

# ---- npm packages ----------------------------------------------------------------------------------------------------
# npm writes node_modules/.package-lock.json when it is done: older than the lock file, or without it, the tree is not what the lock file says.
installed=node_modules/.package-lock.json
if [ ! -f "$installed" ] || [ package-lock.json -nt "$installed" ]; then
  echo "setup: npm ci"
  # The build and the tests need the development packages, whatever NODE_ENV says.
  npm ci --include=dev --no-audit --no-fund --loglevel=error
  touch "$installed"
fi

# ---- Server programs -------------------------------------------------------------------------------------------------
PATH=$PATH:/usr/sbin:/usr/local/sbin
missing=
need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null 2>&1 && return
  case " $missing " in *" $2 "*) ;; *) missing="${missing:+$missing }$2" ;; esac
}
need mariadbd mariadb-server
need mariadb-install-db mariadb-server
need memcached memcached
[ $for_tests = no ] || need memccat libmemcached-tools

# Only some tests want these: whoever can't install them does without those tests.
want() { # FILE PACKAGES WHAT
  [ ! -e "$1" ] || return 0
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    missing="${missing:+$missing }$2"
  else
    echo "setup: without $2, $3 is not tested" >&2
  fi
}
if [ $for_tests = yes ]; then
  want /usr/lib/python3/dist-packages/pymemcache/test "python3-pymemcache python3-pytest" "the suite of that client"
  want /usr/lib/python3/dist-packages/pytest python3-pytest "the suite of pymemcache"
  want /usr/share/doc/php-memcached "php-cli php-memcached" "the examples in PHP"
  want /usr/lib/python3/dist-packages/django python3-django "the example for Django"
  want /usr/share/doc/libcache-memcached-fast-perl libcache-memcached-fast-perl "the example in Perl"
  want /lib/systemd/systemd systemd "the installation on a machine"
  want /usr/bin/curl curl "the installation on a machine"
  want /usr/bin/openssl openssl "the installation on a machine"
  want /usr/bin/ip iproute2 "the installation on a machine"
  want /usr/sbin/haproxy haproxy "what is rendered for HAProxy"
  want /usr/sbin/keepalived keepalived "what is rendered for keepalived"
fi

# Debian starts a service that it installs, unless a policy forbids it. Whatever policy was there comes back afterwards.
policy=/usr/sbin/policy-rc.d
kept=$policy.before-whitehole
mark='# made by whitehole for the time of an installation'

forbid_services() {
  # Under the lock: a policy with our mark is left from a set-up that was killed, and the kept one is the true one.
  if [ -e "$policy" ] && ! grep -qF "$mark" "$policy"; then mv -f "$policy" "$kept"; fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
  chmod 755 "$policy"
}

restore_policy() {
  trap - EXIT
  if [ -e "$kept" ]; then mv -f "$kept" "$policy"; else rm -f "$policy"; fi
}

install_packages() {
  exec 9>/var/lock/whitehole-setup.lock
  flock 9
  trap restore_policy EXIT
  trap 'restore_policy; exit 130' INT
  trap 'restore_policy; exit 143' TERM HUP
  forbid_services
  echo "setup: installing $missing (their services are not started)"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of names
  set -- apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 install --no-install-recommends $missing
  log=$(mktemp)
  # With the package lists as they are, and if they are old or absent, with fresh ones.
  if ! "$@" >"$log" 2>&1 9>&- </dev/null && ! { apt-get -qq update >"$log" 2>&1 9>&- && "$@" >>"$log" 2>&1 9>&- </dev/null; }; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install: $missing"
  fi
  rm -f "$log"
  restore_policy
  trap - INT TERM HUP
  exec 9>&-
}

if [ -n "$missing" ]; then
  if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    install_packages
  else
    fail "missing programs. Install these packages (their services are not needed), for instance as root: apt-get install --no-install-recommends $missing"
  fi
fi

if [ $for_tests = yes ] && [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
  engines=$(sh scripts/engines.sh) || {
    [ -z "${WHITEHOLE_REQUIRE_ENGINES:-}" ] || fail "the newer engines could not be unpacked"
    echo "setup: the newer engines could not be unpacked: tests on MySQL 9.7 and memcached 1.6.45 are skipped" >&2
  }
  : "${engines:=}"
fi

# ---- Build -------------------------------------------------------------------------------------------------------------
sh scripts/build.sh
