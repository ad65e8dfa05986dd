"""ESPAN, the super-resolver's base, alone beside dense engines: `benchmarks.models` with other defaults.

python -m benchmarks.espan --photos PHOTOS --json benchmarks/results/espan.json

On a busy machine compare the CPU milliseconds of one thread, which other processes disturb less than the clock's.
"""

from benchmarks.models import main

if __name__ == "__main__":
    main(models=["srresnet"], networks=["base"])
