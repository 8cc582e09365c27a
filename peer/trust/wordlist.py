"""The 256 words of fingerprints, one for each byte value. Our own list; its order is part of the format.

Common English nouns and colours of 4 to 8 letters. No two begin with the same three letters, and any two have a
Levenshtein distance of at least three, so a word that was misheard or mistyped can still be identified.
"""

from typing import Final

WORDS: Final = tuple(
    """
    acorn admiral album alpine amber anchor angel apple apricot arch armor artist aspen atlas attic august
    autumn badge baker balcony bamboo banjo barley beacon bicycle biscuit blanket blossom bonfire bottle
    boulder bronze bucket buffalo butter buzzard cabin cactus camera canyon captain carpet castle cedar chapel
    cherry chimney cinema circus clover cobalt coffee comet copper cottage coyote cradle cricket crystal
    cushion cyclone dagger daisy delta denim desert diamond dinner doctor dolphin domino donkey dragon drummer
    duchess dynamo eagle easel echo eclipse elbow emerald engine equator escort evening fabric feather fender
    fiddle figure finch flute forest fossil freckle furnace galaxy garlic gazelle geyser giraffe glacier
    goblet goose gorilla granite griffin guitar gymnast halo hatchet helmet heron hickory horizon hotel husky
    igloo indigo insect island ivory jaguar jasmine jelly jewel jigsaw jungle kayak kennel kingdom kitchen
    kiwi koala ladder lagoon lantern laurel leopard lettuce library lilac lizard lobster lunar lyric magnet
    mailbox marble meadow mercury mirror mitten monsoon mosaic muffin museum napkin narrow nectar needle
    nephew nickel nomad north nugget nutmeg oasis oboe ocean october olive onion opal orbit orchid ostrich
    outlaw oxygen palace panther papaya pebble pelican piano pigeon pillow pirate polar pony potato prairie
    puzzle pyramid quarry quilt rabbit raven reef ribbon rubber rural saffron salmon sandal school seagull
    sequoia silver siren skater slipper snow soccer sphinx spider stadium summit sunset swan teapot temple
    thistle thunder tiger tractor trumpet tulip turtle tycoon umbrella unicorn uranium vacuum vanilla veranda
    village violin vivid volcano voyage vulture waffle walnut warden window wolf wombat wrench yacht yogurt
    zebra zenith zephyr zigzag
    """.split()  # noqa: SIM905 - 256 quoted words would be harder to read
)
