# edvr_jax for restoring and evaluating, on CPU or on NVIDIA GPUs:
#   docker build --target cpu -t edvr .
#   docker build --target cuda -t edvr:cuda .
# With more of the package: --build-arg EXTRAS=train,report
FROM python:3.12-slim AS cpu
ARG EXTRAS=hub
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY edvr_jax edvr_jax
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]"
WORKDIR /data
ENTRYPOINT ["edvr"]
CMD ["--help"]

FROM cpu AS cuda
RUN pip install --no-cache-dir --constraint /src/constraints.txt "jax[cuda12]"
