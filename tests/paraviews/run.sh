#!/bin/bash
# The ParaView tests against the ParaViews of newer Debians. Usage, as root: run.sh SUITE ...
#
# A suite's root is made once, by debootstrap from apt's own mirror; delete it to have it made anew.
# pytest runs on this machine. Only pvpython runs in the root, where it finds the same files, memory
# and network.
set -euo pipefail

if [ "$(id -u)" != 0 ]; then
  echo "Other ParaViews can be tested by root only: their roots need chroot and mount." >&2
  exit 1
fi
# In a mount namespace of our own: what is mounted goes with the last process, however that ends.
if [ "${1:-}" != --unshared ]; then
  exec unshare --mount "$0" --unshared "$@"
fi
shift

roots=${XDG_CACHE_HOME:-$HOME/.cache}/tensorview/paraviews
project=$(realpath "$(dirname "$0")/../..")
python=$project/.venv/bin/python
scratch=$(mktemp --directory)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT # after pytest, which heard it too, has ended what it started

share() { # ROOT: give it this machine's devices, processes, temporary files and this project
  local folder
  for folder in /dev /proc /sys "$(dirname "$scratch")" "$project"; do
    mkdir -p "$1$folder"
    mount --rbind "$folder" "$1$folder"
  done
}

make_root() { # SUITE ROOT
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' \
    "Created-By: Packages" "Origin: Debian" "Label: Debian" | head -n 1)
  if ! command -v debootstrap >/dev/null || [ -z "$mirror" ]; then
    echo "A root of Debian $1 needs debootstrap, and a mirror of Debian in apt's sources." >&2
    exit 1
  fi
  echo "Making a root of Debian $1 in $2"
  rm -rf --one-file-system "$2"
  mkdir -p "$2"
  debootstrap --variant=minbase "$1" "$2" "$mirror" >/dev/null
  printf '#!/bin/sh\nexit 101\n' >"$2/usr/sbin/policy-rc.d" # start no daemon
  chmod 755 "$2/usr/sbin/policy-rc.d"
  cp /etc/hosts "$2/etc/hosts"
  share "$2"
  DEBIAN_FRONTEND=noninteractive chroot "$2" \
    apt-get install -qq -y --no-install-recommends paraview python3-paraview >/dev/null
  chroot "$2" apt-get clean
  touch "$2/.ready"
}

make_programs() { # ROOT FOLDER: programs of the root that start like those of this machine
  mkdir "$2"
  cat >"$2/pvpython" <<END
#!/bin/sh
exec chroot "$1" env --chdir="\$PWD" "\${0##*/}" "\$@"
END
  chmod 755 "$2/pvpython"
  ln "$2/pvpython" "$2/paraview"
}

failed=0
for suite; do
  root=$roots/$suite
  if [ -e "$root/.ready" ]; then share "$root"; else make_root "$suite" "$root"; fi
  make_programs "$root" "$scratch/$suite"
  export TENSORVIEW_PVPYTHON=$scratch/$suite/pvpython
  (cd "$project" && "$python" -m pytest -m paraview --ignore=tests/gui -p no:cacheprovider \
    --junitxml="$scratch/$suite.xml") || failed=1
  "$python" - "$suite" "$scratch/$suite.xml" >>"$scratch/table" <<'END'
import sys
from xml.etree import ElementTree

from tensorview.client.paraview import find_paraview

suite, results = sys.argv[1:]
outcomes = {}
for test in ElementTree.parse(results).iter("testcase"):  # twice, if its tear-down failed too
    name = test.get("classname"), test.get("name")
    outcomes.setdefault(name, set()).update(part.tag for part in test)
failed = sum(not outcome.isdisjoint({"failure", "error"}) for outcome in outcomes.values())
passed = sum(outcome.isdisjoint({"failure", "error", "skipped"}) for outcome in outcomes.values())
seconds = float(next(ElementTree.parse(results).iter("testsuite")).get("time"))
paraview = find_paraview()
version = ".".join(map(str, paraview.version))
row = suite, version, paraview.python, paraview.numpy, paraview.vtk, passed, failed, round(seconds)
print(*(f"{value:<12}" for value in row))
END
done

echo
printf '%-13s' suite ParaView Python numpy VTK passed failed seconds
echo
cat "$scratch/table"
exit "$failed"
