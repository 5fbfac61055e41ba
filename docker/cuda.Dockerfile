# lamer-fast on NVIDIA GPUs with vLLM, from the pins of constraints.txt. Not built here: no container engine runs
# where it was written. The host needs a driver and the NVIDIA container toolkit; CUDA comes with PyTorch.
#   docker build -f docker/cuda.Dockerfile -t lamer-fast:cuda .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/runs:/home/runs" lamer-fast:cuda doctor
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN PIP_BUILD_CONSTRAINT=/src/constraints.txt PIP_CONSTRAINT=/src/constraints.txt pip wheel --no-deps --wheel-dir /wheels . ./kernels

FROM python:3.11-slim-bookworm
ARG TORCH_ARGS="torch==2.13.0"
# Triton compiles a launcher for each kernel, at run time
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY constraints.txt /opt/constraints.txt
RUN pip install --no-cache-dir -c /opt/constraints.txt ${TORCH_ARGS}
COPY --from=build /wheels /opt/wheels
RUN pip install --no-cache-dir -c /opt/constraints.txt --find-links /opt/wheels "$(ls /opt/wheels/lamer_fast-*.whl)[train,vllm,lora,plot]"
WORKDIR /home
ENTRYPOINT ["lamer-fast"]
CMD ["doctor"]
