"""The one training loop, and its border with Lightning.

What is replaced or worked around in Lightning (last checked with 2.6), and why: a checklist for the next version. Gains
are of the step of MNIST's MLP with k = 2, one core.

For speed:

- ``bursts``, with manual optimisation (``optimizer_steps``): Lightning runs once per 16 batches, and its work around a
  batch is paid for once. 2.1 ms of CPU time a step; in bursts of one batch, 2.6 ms (synthetic images, a busy machine).
  Its counts of batches are of bursts, so that arguments of the Trainer that count batches are refused (``fit``). It
  iterates over a loader before it sets the epoch of ``loader.sampler``, and looks for ``batch_sampler`` beside it.
- ``PYTORCH_NVML_BASED_CUDA_CHECK=0`` without a GPU (``fit``): Lightning lets torch ask NVML whether there is one, which
  optimisers do in each step. Asking takes 0.18 ms, a tenth of the step or less.
- ``OptimizerSteps`` takes steps itself, not by ``manual_backward`` and ``LightningOptimizer.step``, which look for
  hooks of every callback three times a step: 9 % of an epoch's time, in turn (0.917 and 0.840 s). It counts steps as
  these do, calls the strategy around the backward pass, uses the precision's scaler, and the hooks that callbacks have.
- Accuracies and losses stay on the device until the epoch ends (``epoch_record``), instead of ``self.log`` in
  each step: nothing in a step waits for the device.
- ``DirectCheckpointIO`` (``checkpoints``): Lightning's own makes a second copy in memory and one in /tmp.

So that a run that is stopped anywhere ends as an uninterrupted one:

- ``Checkpoints`` instead of ``ModelCheckpoint``: files appear whole or not at all, and hold every rank's random states.
- Within an epoch, a checkpoint has the loops' state of the epoch's start but for the counter of optimiser steps
  (``Checkpoints.on_save_checkpoint``), and bursts that were trained on come empty (``BurstLoader``).
- Loggers are called in ``on_train_epoch_end``, not through ``self.log``: Lightning calls them after the checkpoint is
  saved, and a run that is killed between would lose a row. It takes a value named ``step`` as the axis of all loggers.
- ``trainer._signal_connector.register_signal_handlers`` does nothing: ``signals`` handles them, between bursts;
  Lightning's handlers would start to communicate at any time. Ctrl-C is the ``SystemExit`` that ``fit`` turns back.
- Policies that stop training at an epoch's start raise ``StopIteration``, by which Lightning leaves its loop of epochs.

For the rest:

- ``configure_optimizers`` calls ``trainer.fit_loop.setup_data``: a schedule needs the number of steps, which Lightning
  knows later.
- ``make_trainer`` sets how GPUs compute (``hardware.set_numerics``), not ``deterministic`` of the Trainer, which would
  forbid operations that have no deterministic kernel. ``auto`` devices are counted before the Trainer does.
- ``BurstModule.compile_batches`` compiles ``batch_terms``, not the LightningModule: Lightning runs once per burst.
- Batches whose gradients are accumulated run under ``no_sync`` of DDP's wrapper; ``ranks.draw_apart`` seeds ranks.
- ``DDPStrategy(broadcast_buffers=False)``: ranks may have different numbers of forward passes; ``ranks.share_buffers``
  copies them before validation. ``ranks.join`` launches processes before the Trainer does, by ``strategy.launcher``.
- Loaders share data among ranks themselves: ``use_distributed_sampler=False``.
- Loaders are made outside inference mode (``GroupDataModule``), in which Lightning may ask for them.
- ``TrainingProgress`` instead of Lightning's bars: epochs and steps, redrawn rarely; a line per epoch where there is no
  terminal.
- Messages for other loops than this one are silenced (``fit``).
"""
