"""The service beyond one machine: the same application in Ray Serve, its workers anywhere in the cluster.

    Ray's HTTP proxy -> front replicas (the FastAPI application: admission, queue, metrics; no torch)
                     -> worker replicas (the models; Ray Serve starts as many as the load asks for)

Nothing but this package imports Ray: `pip install pixeltier[ray]`, then
`serve run pixeltier.service.ray.application:build`.
"""
