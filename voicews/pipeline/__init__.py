"""Processors, the chain that they form, and the task that runs it: no I/O, no Django."""

from voicews.pipeline.pipeline import Pipeline
from voicews.pipeline.processor import FrameProcessor, QueuedProcessor
from voicews.pipeline.rtvi import RTVIProcessor
from voicews.pipeline.task import PipelineTask, TaskState

__all__ = [
    "FrameProcessor",
    "Pipeline",
    "PipelineTask",
    "QueuedProcessor",
    "RTVIProcessor",
    "TaskState",
]
