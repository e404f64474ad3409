"""Print what backends and readers of NIR need, for hardware/install.sh: python3 -m spiking_lfp.deploy.chips.

program|NAME|DEBIAN PACKAGE
environment|NAME|REQUIREMENTS|REQUIREMENTS INSTALLED WITH --no-deps
"""

from spiking_lfp.deploy.chips import chips
from spiking_lfp.deploy.nir_readers import ENVIRONMENTS

for chip in chips().values():
    for program, package in chip.programs.items():
        print("program", program, package, sep="|")
for home in (*(home for chip in chips().values() for home in chip.environments), *ENVIRONMENTS):
    print("environment", home.name, " ".join(home.requirements), " ".join(home.no_deps), sep="|")
