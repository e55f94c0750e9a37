#!/bin/sh
# ResNet-18 on CIFAR-10 at equal cost, k = 2, 4 and 8: meant for at most 25 minutes on one GPU; the same command resumes.
cd "$(dirname "$0")/.." && exec "${PYTHON:-python}" benchmarks/compare_all.py --dataset CIFAR10 --seeds 0 --k 8 4 2 \
    --experiment_name 'resnet18_gpu_*_cells_kl' 'resnet18_gpu_*_packed_pruned_kl' 'resnet18_gpu_*_add' \
    --accelerator cuda "$@"
