# docker build -t parity .                                                                       for CPUs
# docker build -t parity --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .        for GPUs
# docker run --rm -v $PWD/data:/data -v $PWD/experiments:/work/experiments parity train --dataset MNIST --experiment_name mlp_k2_add
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

COPY requirements.lock /tmp/
# The lock has CUDA's packages too, for Linux; what torch needs of them comes with its wheel from the index.
RUN pip install --no-cache-dir uv \
    && grep -vE '^(nvidia-|triton|cuda-)' /tmp/requirements.lock > /tmp/locked \
    && uv pip install --system --no-cache --index "$TORCH_INDEX" --index-strategy unsafe-best-match -r /tmp/locked

COPY . /src
RUN uv pip install --system --no-cache --no-deps /src && rm -rf /src

ENV DATA_ROOT=/data
WORKDIR /work
ENTRYPOINT ["parity"]
CMD ["--help"]
