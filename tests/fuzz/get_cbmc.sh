#!/bin/sh
# Unpacks CBMC 6 of a newer Debian suite, with the C library it needs, into a directory, and leaves
# the system as it is: get_cbmc.sh DIRECTORY. Then DIRECTORY/cbmc runs it.
# The mirror is the one that this machine's apt has for its own suite.
set -eu
suite=trixie
packages="cbmc libc6 libstdc++6 libgcc-s1 minisat zlib1g"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
directory=$1
fail() { echo "$1" >&2; exit 3; }

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || fail "not a Debian on amd64"
[ -r $keyring ] || fail "no $keyring"
own=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
mirror=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
  awk -v own="$own" '$1 == "Debian" && $2 == own && $3 == "main" {print $4; exit}')
[ -n "$mirror" ] || fail "apt has no Debian mirror for $own"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/root"
echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"
apt() {
  apt-get -qq -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" \
    -o APT::Sandbox::User=root -o Acquire::Retries=2 -o Acquire::http::Timeout=20 "$@"
}
apt update >"$work/log" 2>&1 || fail "$suite cannot be reached: $(tail -1 "$work/log")"
(cd "$work/cache" && apt download $(printf "%s/$suite " $packages)) >"$work/log" 2>&1 ||
  fail "a package of $suite cannot be had: $(tail -1 "$work/log")"
for package in "$work"/cache/*.deb; do dpkg -x "$package" "$work/root"; done

cat >"$work/root/cbmc" <<'END'
#!/bin/sh
r=$(dirname "$(readlink -f "$0")")
exec "$r/usr/lib64/ld-linux-x86-64.so.2" --library-path "$r/usr/lib/x86_64-linux-gnu:$r/usr/lib" "$r/usr/bin/cbmc" "$@"
END
chmod +x "$work/root/cbmc"
"$work/root/cbmc" --version >/dev/null 2>"$work/log" || fail "CBMC does not start: $(tail -1 "$work/log")"
mkdir -p "$(dirname "$directory")"
rm -rf "$directory"
cp -a "$work/root" "$directory"
