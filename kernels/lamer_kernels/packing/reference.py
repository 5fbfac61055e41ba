"""Reference: the definition of the plan, best-fit decreasing with a fixed rule for ties."""

from bisect import bisect_left, insort


def pack_ref(lengths: list[int], max_tokens: int) -> list[int]:
    """Bin of each length. Longest first, earlier first among equals; each goes into the fullest bin that has
    room, among equally full bins into the one touched last, else into a new bin.
    """
    bins = [0] * len(lengths)
    stacks: dict[int, list[int]] = {}  # room left -> bins with that room
    rooms: list[int] = []  # keys of `stacks` that are not empty, ascending
    num_bins = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        at = bisect_left(rooms, lengths[i])
        if at == len(rooms):
            room, chosen = max_tokens, num_bins
            num_bins += 1
        else:
            room = rooms[at]
            chosen = stacks[room].pop()
            if not stacks[room]:
                del stacks[room], rooms[at]
        bins[i] = chosen
        room -= lengths[i]
        if room not in stacks:
            stacks[room] = []
            insort(rooms, room)
        stacks[room].append(chosen)
    return bins
