"""Annotates a corpus locally, or on a local Ray cluster of two nodes, one of which is killed."""

import sys
import threading
import time
from pathlib import Path

from data_pipeline.annotate.clip_lists import read_clip_list
from data_pipeline.annotate.recipe import load_recipe
from data_pipeline.annotate.runner import Job, run_job
from data_pipeline.llm.endpoint import Endpoint


def main() -> None:
    corpus, out, url, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    endpoints = {
        name: Endpoint(url=url, model="agent", max_tokens=600)
        for name in ("visual", "audio", "reasoning")
    }
    job = Job(
        recipe=load_recipe("merr_fine"),
        out=out,
        endpoints=endpoints,
        units=str(corpus / "units"),
        backoff=0.05,
    )
    work, started = None, threading.Event()
    if where == "cluster":
        import ray
        from ray.cluster_utils import Cluster

        from data_pipeline.annotate.cluster import on_cluster

        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8}
        )
        second = cluster.add_node(num_cpus=1, object_store_memory=10**8)
        ray.init(address=cluster.address, log_to_driver=False)

        def kill() -> None:
            started.wait(200)
            time.sleep(0.3)
            cluster.remove_node(second, allow_graceful=False)
            print("killed a node", flush=True)

        killer = threading.Thread(target=kill)
        killer.start()
        work = on_cluster(address=None, tasks=None)

    def progress(task: str, done: float, total: float | None) -> None:
        if done >= 4:
            started.set()

    done = run_job(job, read_clip_list(corpus / "manifest.csv"), progress=progress, work=work)
    if where == "cluster":
        started.set()
        killer.join()
        ray.shutdown()
        cluster.shutdown()
    print(len(done.annotations), done.unfinished, done.stopped)
    sys.exit(0 if not done.unfinished else 1)


if __name__ == "__main__":
    main()
