# lamer-fast on CPUs, from the pins of constraints.txt. Not built here: no container engine runs where it was written.
#   docker build -f docker/cpu.Dockerfile -t lamer-fast:cpu .
#   docker run --rm -v "$PWD/runs:/home/runs" lamer-fast:cpu demo
# PyTorch's default build brings gigabytes of CUDA packages; TORCH_ARGS chooses another, as in the Makefile.
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN PIP_BUILD_CONSTRAINT=/src/constraints.txt PIP_CONSTRAINT=/src/constraints.txt pip wheel --no-deps --wheel-dir /wheels . ./kernels

FROM python:3.11-slim-bookworm
ARG TORCH_ARGS="torch==2.13.0"
COPY constraints.txt /opt/constraints.txt
RUN pip install --no-cache-dir -c /opt/constraints.txt ${TORCH_ARGS}
COPY --from=build /wheels /opt/wheels
RUN pip install --no-cache-dir -c /opt/constraints.txt --find-links /opt/wheels "$(ls /opt/wheels/lamer_fast-*.whl)[train,lora,plot]"
WORKDIR /home
ENTRYPOINT ["lamer-fast"]
CMD ["demo"]
