#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Packages of Debian 13 (trixie) on a Debian 12 that does not have it among apt's
# sources. Nothing is installed, and apt's own state and sources stay as they are.
#
#   trixie.sh source PKG DIR        the files of the source package, into DIR
#   trixie.sh download PKG... DIR   these .debs, into DIR
#   trixie.sh resolve PKG... DIR    these and all they depend on, unpacked into DIR
#
# A PKG is a package's name, or NAME=VERSION. "source" and "download" leave files that
# are there already as they are; "resolve" begins with an empty DIR and leaves a list
# of packages and versions in DIR.packages. APT_ARGS= holds more options of apt-get,
# such as "--no-install-suggests -o Debug::pkgProblemResolver=1".
#
# The mirror is the one that apt has Debian 12 from; the archive's signature is checked
# with Debian's keyring. apt's proxies and passwords are used as they are.

set -eu -o pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
state=$top/build/trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die() { echo "trixie: $*" >&2; exit 1; }

[ $# -ge 3 ] || die "usage: trixie.sh source PKG DIR | download PKG... DIR | resolve PKG... DIR"
command=$1
dir=${*: -1}
packages=("${@:2:$#-2}")
case $command in
source) [ $# = 3 ] || die "source: one package at a time" ;;
download | resolve) ;;
*) die "no command $command" ;;
esac
command -v apt-get > /dev/null || die "there is no apt-get"
[ -f "$keyring" ] || die "there is no $keyring (apt-get install debian-archive-keyring)"

mkdir -p "$state"/{lists/partial,archives/partial} "$dir"
dir=$(cd "$dir" && pwd)
exec 8> "$state/.lock"
flock 8

# -c is read last and wins over the system's configuration, whose hooks would tidy
# up the system's caches after us
cat > "$state/apt.conf" << END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
#clear APT::Default-Release;
Dir::Etc::SourceList "$state/trixie.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$state";
Dir::State::Lists "$state/lists";
Dir::State::status "$state/status";
Dir::State::extended_states "$state/extended_states";
Dir::Cache "$state";
Dir::Cache::Archives "$state/archives";
Dir::Cache::pkgcache "$state/pkgcache.bin";
Dir::Cache::srcpkgcache "$state/srcpkgcache.bin";
Dir::Log "$state";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
APT::Keep-Downloaded-Packages "true";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Immediate-Configure "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
END
: > "$state/status"

read -ra extra <<< "${APT_ARGS:-}"
apt_get() { apt-get -q -c "$state/apt.conf" "${extra[@]}" "$@" < /dev/null; }

# Where apt has bookworm's main from, whatever form its sources have. The origin is
# known only once apt has the lists; others than Debian have suites of this name, too,
# but not the signature.
mirrors() {
	# shellcheck disable=SC2016 # apt's dollars
	apt-get indextargets --format \
		'$(CREATED_BY)|$(COMPONENT)|$(RELEASE)|$(CODENAME)|$(ORIGIN)|$(REPO_URI)' |
		awk -F'|' '$1 == "Packages" && $2 == "main" &&
			($3 == "bookworm" || $4 == "bookworm") &&
			($5 == "Debian" || $5 !~ /^[A-Za-z]/) && !seen[$6]++ { print $6 }'
}

update() {
	local mirror tried=0
	while read -r mirror; do
		[ -n "$mirror" ] || continue
		tried=1
		cat > "$state/trixie.sources" <<- END
			Types: deb deb-src
			URIs: $mirror
			Suites: trixie
			Components: main
			Signed-By: $keyring
		END
		if apt_get -o APT::Update::Error-Mode=any update > "$state/log" 2>&1; then
			: > "$state/updated"
			return
		fi
	done <<< "$(mirrors)"
	[ "$tried" = 1 ] || die "apt's sources have no entry with bookworm and main to take the mirror from"
	cat "$state/log" >&2
	die "no lists of trixie's packages"
}

# fetch COMMAND...: with the lists as they are; if that fails, with new ones, as a
# point release has removed what they name
fetch() {
	if [ -z "$(find "$state/updated" -mmin -1440 2> /dev/null)" ]; then
		update
	elif "$@" > "$state/log" 2>&1; then
		return
	else
		update
	fi
	"$@" > "$state/log" 2>&1 || { cat "$state/log" >&2; die "cannot fetch ${packages[*]}"; }
}

in_dir() { (cd "$dir" && apt_get "$@"); }

# The files' names are known before there is anything to fetch
install() {
	apt_get -s install "${packages[@]}" > "$state/plan" &&
		apt_get -y --download-only install "${packages[@]}"
}

case $command in
source)
	# --only-source: the name is that of a source package
	fetch in_dir --only-source --download-only source "${packages[@]}"
	;;
download)
	fetch in_dir download "${packages[@]}"
	;;
resolve)
	fetch install
	case $dir in / | "$HOME" | "$top") die "resolve empties DIR, which is $dir" ;; esac
	rm -rf "$dir" "$dir.packages"
	mkdir -p "$dir"
	# Inst NAME (VERSION SUITE [ARCHITECTURE]...)
	sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) [^)]*\[\([^]]*\)\]).*/\1 \2 \3/p' "$state/plan" |
		sort > "$state/list"
	[ -s "$state/list" ] || die "apt would install nothing for ${packages[*]}"
	while read -r name version arch; do
		dpkg -x "$state/archives/${name%%:*}_${version//:/%3a}_$arch.deb" "$dir"
	done < "$state/list"
	cut -d' ' -f1,2 "$state/list" > "$dir.packages"
	;;
esac
