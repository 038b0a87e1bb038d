from dataclasses import replace

from slurm_gpushare.metrics.readings import GpuReading
from slurm_gpushare.metrics.track import Track

READING = GpuReading(0, 0, "GPU-1", "x", 1, 0.0, 0.5, 100.0, None, ())


def at(time, **more):
    return replace(READING, time=time, **more)


def test_an_interval_lies_between_two_readings():
    track = Track(10)
    assert track.step(at(1.0)) is None
    step = track.step(at(3.0))
    assert (step.seconds, step.energy, step.reading.time) == (2.0, 200.0, 3.0)


def test_a_gap_a_long_pause_another_gpu_or_a_clock_that_stands_is_no_interval():
    track = Track(10)
    track.step(at(1.0))
    track.gap()
    assert track.step(at(2.0)) is None
    assert track.step(at(13.0)) is None
    assert track.step(at(14.0)).seconds == 1
    assert track.step(at(15.0, uuid="GPU-2")) is None
    assert track.step(at(15.0, uuid="GPU-2")) is None


def test_why_there_is_no_interval_is_told_where_there_was_a_reading_before():
    track = Track(10)
    track.step(at(1.0))
    assert track.why is None
    track.step(at(13.0))
    assert track.why == "no sample for 12 s"
    track.step(at(14.0, uuid="GPU-2"))
    assert track.why == "another GPU came in its place"
    track.step(at(15.0, uuid="GPU-2"))
    assert track.why is None
    track.gap()
    track.step(at(16.0, uuid="GPU-2"))
    assert track.why is None  # whoever told of the gap knows more


def test_idle_power_is_the_least_seen_with_nothing_on_the_gpu():
    track = Track(10)
    track.step(at(0.0, power=100.0))
    assert track.step(at(1.0, power=100.0)).idle_power == 100
    assert track.step(at(2.0, power=60.0)).idle_power == 80
    track.step(at(3.0, power=40.0, sm=0.0))
    assert track.step(at(4.0, power=40.0, sm=0.0)).idle_power == 40
    assert track.step(at(5.0, power=20.0)).idle_power == 40


def test_idle_power_goes_on_with_the_next_track_of_that_gpu_and_of_no_other():
    track = Track(10)
    track.step(at(0.0, power=40.0, sm=0.0))
    track.step(at(1.0, power=40.0, sm=0.0))
    again = Track(10, track.powers)
    again.step(at(0.0, power=100.0))
    assert again.step(at(1.0, power=100.0)).idle_power == 40
    again.step(at(2.0, power=100.0, uuid="GPU-2"))
    assert again.step(at(3.0, power=100.0, uuid="GPU-2")).idle_power == 100


def test_a_moment_says_nothing_about_idle_power():
    track = Track(10)
    track.step(at(0.0, energy=100.0))
    step = track.step(at(0.05, energy=100.0))
    assert step.energy == 0 and step.idle_power is None
