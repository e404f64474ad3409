"""Print the requirements of all backends, for hardware/install.sh: python3 -m spiking_lfp.deploy.chips.

program|NAME|DEBIAN PACKAGE
environment|NAME|REQUIREMENTS|REQUIREMENTS INSTALLED WITH --no-deps
"""

from spiking_lfp.deploy.chips import chips

for chip in chips().values():
    for program, package in chip.programs.items():
        print("program", program, package, sep="|")
    for home in chip.environments:
        print("environment", home.name, " ".join(home.requirements), " ".join(home.no_deps), sep="|")
