"""What MPS holds a program to, on a real GPU: the truth behind docs/enforcement.md."""

import math

from .conftest import Device, Mps, result, start, wait_ready

OUT_OF_MEMORY = 2
SHARE, LIMIT = 25, 2048  # per cent, MiB


def test_two_programs_are_held_to_their_share(device: Device, mps: Mps) -> None:
    limits = mps.clients(SHARE, f"0={LIMIT}M")
    both = [start("memory", 2 * LIMIT, environment=limits) for _ in range(2)]
    found = [result(process) for process in both]
    device.figures["two programs of 25 % and 2 GiB"] = found
    for each in found:
        assert each["error"] == OUT_OF_MEMORY
        assert LIMIT / 2 <= each["mib"] <= LIMIT
        # Rounded up to what the hardware can divide; an SM of two is the smallest part there is.
        assert each["sms"] <= math.ceil(device.sms * SHARE / 100) + 2


def test_a_program_within_its_memory_gets_it(mps: Mps) -> None:
    found = result(start("memory", LIMIT / 2, environment=mps.clients(SHARE, f"0={LIMIT}M")))
    assert (found["error"], found["mib"]) == (0, LIMIT / 2)


def test_the_limit_is_each_programs_not_the_jobs(device: Device, mps: Mps) -> None:
    limits = mps.clients(SHARE, f"0={LIMIT}M")
    held = start("busy", 20, environment=limits)
    wait_ready(held)
    both = [start("memory", LIMIT / 2, environment=limits) for _ in range(3)]
    found = [result(process) for process in both]
    held.kill()
    held.communicate()
    device.figures["three programs of one limit together, MiB"] = sum(each["mib"] for each in found)
    assert sum(each["mib"] for each in found) > LIMIT


def test_who_clears_the_percentage_gets_all_multiprocessors(device: Device, mps: Mps) -> None:
    found = result(start("memory", 64, environment=mps.clients(None, f"0={LIMIT}M")))
    device.figures["multiprocessors without the percentage"] = found["sms"]
    assert found["sms"] == device.sms


def test_a_default_of_the_daemon_holds_who_clears_the_percentage(device: Device, mps: Mps) -> None:
    mps.say(f"set_default_active_thread_percentage {SHARE}")
    mps.say(f"set_default_device_pinned_mem_limit 0 {LIMIT}M")
    found = result(start("memory", 2 * LIMIT, environment=mps.clients(None, None)))
    device.figures["the daemon's defaults, no variables"] = found
    assert found["sms"] <= math.ceil(device.sms * SHARE / 100) + 2
    assert (found["error"], found["mib"] <= LIMIT) == (OUT_OF_MEMORY, True)


def test_a_fault_of_one_program_ends_the_other(device: Device, mps: Mps) -> None:
    limits = mps.clients(SHARE, f"0={LIMIT}M")
    other = start("busy", 15, environment=limits)
    wait_ready(other)
    guilty = result(start("fault", environment=limits))
    found = result(other)
    device.figures["a fault: CUDA's error of the guilty and of the other"] = [guilty["error"], found["error"]]
    assert guilty["error"] != 0
    assert found["error"] != 0  # documented: a fatal fault is reported to all clients on the GPU
