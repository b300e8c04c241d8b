# Sourced by the other scripts: makes .venv if there is none, installs tfvae into it where setup.py changed, and puts it on
# PATH. A Python of one's own: PYTHON=/path/to/python3.12 scripts/…

python_version_fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ ! -x .venv/bin/python ]; then
  found=
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if python_version_fits "$candidate"; then found=$candidate; break; fi
  done
  if [ -z "$found" ]; then
    echo "error: no Python 3.10 to 3.13 found: install one, or name it: PYTHON=/path/to/python $0" >&2
    exit 1
  fi
  echo "Making .venv with $("$found" --version)"
  "$found" -m venv .venv || { rm -rf .venv; echo "error: $found -m venv failed (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
fi
if ! cmp -s setup.py .venv/installed_setup.py; then
  echo "Installing (about 700 MB the first time)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
  cp setup.py .venv/installed_setup.py
fi
export PATH="$PWD/.venv/bin:$PATH"
