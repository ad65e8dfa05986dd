"""EfficientNet-Lite0, the classifier's base, alone beside dense engines: `benchmarks.models` with other defaults.

python -m benchmarks.base --photos PHOTOS --json benchmarks/results/base.json
"""

from benchmarks.models import main

if __name__ == "__main__":
    main(models=["resnet18"], networks=["base"])
