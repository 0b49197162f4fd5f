"""Ask an autoscaling cluster for machines, or let them go again.

ray job submit --address http://127.0.0.1:8265 --working-dir cluster -- python scale.py --cpus 128 --gpus 2
ray job submit --address http://127.0.0.1:8265 --working-dir cluster -- python scale.py --release

A study that runs takes up machines as they join. The request stands, and the machines cost, until it is released;
then those that idle are removed, down to each type's smallest number.
"""

import argparse

import ray
from ray.autoscaler.sdk import request_resources


def main() -> None:
    """Hand the request to the autoscaler."""
    parser = argparse.ArgumentParser(description="Ask an autoscaling cluster for machines, or let them go.")
    parser.add_argument("--cpus", type=int, default=0, metavar="N", help="cores in all, not more of them")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs in all")
    parser.add_argument("--release", action="store_true", help="take the request back")
    options = parser.parse_args()
    if options.release == bool(options.cpus or options.gpus):
        parser.error("either --cpus and --gpus, or --release")
    ray.init(address="auto", log_to_driver=False)
    request_resources(bundles=[{"CPU": 1}] * options.cpus + [{"GPU": 1}] * options.gpus)
    asked = "nothing" if options.release else f"{options.cpus} cores and {options.gpus} GPUs"
    print(f"asked for {asked}: `ray status` on the head shows what comes of it")


if __name__ == "__main__":
    main()
