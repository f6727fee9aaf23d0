"""What a person decided about the world's entities; everything else follows from the packages.

Invariant: a code point is in `DROPPED` only when its picture shows the same thing as one that stays, or belongs to a
series whose members differ by a detail (clock faces, moon phases), so that every entity that stays can be told from
every other. `WIKI` holds only titles whose lead is about the thing in the picture; a thing whose plain name leads to a
page about something else (turkey, cricket, sponge) is listed there as well, with the right title or None.
"""

from __future__ import annotations

SHARED_FLAGS: dict[str, str] = {
    # Zero pixel difference in flag-icons: territories that fly another country's flag.
    "BL": "FR", "GF": "FR", "GP": "FR", "MF": "FR", "PM": "FR", "RE": "FR", "WF": "FR", "YT": "FR",
    "HM": "AU", "UM": "US", "BQ": "NL", "SH": "GB", "SJ": "NO", "BV": "NO",
    # Equal but for the ratio or a shade that no two artists agree on: nobody can name them from a picture.
    "MC": "ID", "TD": "RO",
}  # fmt: skip
"""ISO code of a flag left out -> ISO code of the flag that stays for it."""

COUNTRY_NAMES: dict[str, str] = {
    "CD": "Democratic Republic of the Congo",
    "CG": "Republic of the Congo",
    "CZ": "Czech Republic",
    "FK": "Falkland Islands",
    "FM": "Micronesia",
    "HM": "Heard Island and McDonald Islands",
    "MM": "Myanmar",
    "MK": "North Macedonia",
    "MO": "Macau",
    "PN": "Pitcairn Islands",
    "PS": "Palestine",
    "TL": "East Timor",
    "TR": "Turkey",
    "VI": "United States Virgin Islands",
    "CC": "Cocos Islands",
    "SX": "Sint Maarten",
    "CI": "Ivory Coast",
}
"""Where the packages' name is a formula no person would say. Package names become aliases."""

COUNTRY_ALIASES: dict[str, list[str]] = {
    "AE": ["UAE", "the Emirates"],
    "BA": ["Bosnia"],
    "BS": ["Bahamas"],
    "BN": ["Brunei Darussalam"],
    "CC": ["Cocos (Keeling) Islands", "Keeling Islands"],
    "CD": ["DR Congo", "DRC", "Congo-Kinshasa", "Democratic Republic of Congo"],
    "CG": ["Congo", "Congo-Brazzaville", "Congo Republic"],
    "CI": ["Côte d'Ivoire", "Cote d'Ivoire"],
    "CV": ["Cabo Verde", "Cape Verde"],
    "CZ": ["Czechia"],
    "FM": ["Federated States of Micronesia"],
    "GB": ["UK", "Great Britain", "Britain"],
    "GM": ["Gambia", "The Gambia"],
    "KP": ["DPRK", "Democratic People's Republic of Korea"],
    "KR": ["Republic of Korea", "Korea"],
    "MK": ["Macedonia"],
    "MM": ["Burma", "Myanmar (Burma)"],
    "MO": ["Macao"],
    "NL": ["Holland", "the Netherlands"],
    "PS": ["State of Palestine", "Palestinian territories"],
    "RU": ["Russian Federation"],
    "ST": ["Sao Tome and Principe"],
    "SZ": ["Swaziland"],
    "TL": ["Timor-Leste"],
    "TR": ["Türkiye"],
    "TW": ["Republic of China"],
    "US": ["USA", "United States of America", "America", "the US"],
    "VA": ["Vatican", "Holy See"],
    "VG": ["BVI"],
}

FORMER_NAMES: frozenset[str] = frozenset(
    "East Pakistan|Upper Volta|Bahrein|Dahomey|Bechuanaland|Byelorussia|Belorussia|British Honduras|Zaire|"
    "Ubangi-Shari|Spanish Sahara|Abyssinia|Gold Coast|Portuguese Guinea|Dutch East Indies|Kirghizia|Kampuchea|"
    "Gilbert Islands|Ceylon|Basutoland|Moldavia|FYROM|French Sudan|Nyasaland|South West Africa|Rumania|Roumania|"
    "Siam|Turkmenia|Ellice Islands|Formosa|Tanganyika|New Hebrides|Northern Rhodesia|Rhodesia|Southern Rhodesia|"
    "Persia".split("|")
)
"""Aliases of the packages that name a country of another time: not an answer to what the flag shows today."""

COUNTRY_WIKI: dict[str, str | None] = {
    "BS": "The Bahamas",
    "FM": "Federated States of Micronesia",  # "Micronesia" is the region
    "GE": "Georgia (country)",
    "IE": "Republic of Ireland",  # "Ireland" is the island
    "ST": "São Tomé and Príncipe",
}
"""Wikipedia titles where the display name is not the title of the country's lead. None: no lead."""

DROPPED: dict[str, str] = {
    # the face of an animal that is there in full
    **dict.fromkeys("1f435 1f436 1f431 1f42f 1f434 1f42e 1f437 1f42d 1f430 1f432 1f433".split(), "face of another"),
    # the same drawing in another colour or with an accessory
    **dict.fromkeys("1f9ae 1f415-200d-1f9ba 1f408-200d-2b1b 1f426-200d-2b1b 1f425 1f43d".split(), "variant of another"),
    # twenty-four clock faces, and clocks that look like them
    **{f"{code:x}": "clock face" for code in range(0x1F550, 0x1F568)},
    # moon phases and moon faces; the full moon and the crescent stay
    **dict.fromkeys("1f311 1f312 1f313 1f314 1f316 1f317 1f318 1f31a 1f31b 1f31c 1f31d 1f31e".split(), "moon phase"),
    # three globes: the Americas stay
    **dict.fromkeys("1f30d 1f30f".split(), "globe"),
    # the same vehicle seen from the front, in the air, or one more train
    **dict.fromkeys("1f68d 1f694 1f696 1f698 1f6eb 1f6ec 1f684 1f68b 1f688 1f689".split(), "variant of another"),
    # skylines and weather that differ by the light or by one cloud
    **dict.fromkeys("1f306 1f305 1f324 1f325 1f326 2614 26c4 23f3 1f31f 1f3da".split(), "variant of another"),
    # second and third medals, speaker volumes, crossed-out and doubled signs
    **dict.fromkeys("1f948 1f949 1f507 1f508 1f509 1f515 1f3b6 1f4f2 1faab 1f4c0 1f4f8 1f50e".split(), "variant"),
    # stationery series
    **dict.fromkeys("1f4d7 1f4d8 1f4d9 1f4c4 1f5de 1f4b4 1f4b6 1f4b7 1f4b9 1f4e8 1f4e9 1f4e4".split(), "variant"),
    **dict.fromkeys("1f4ea 1f4ec 1f4ed 1f4c6 1f4c9 1f4c2 1f587 1f513 1f50f 1f510 1f3e9".split(), "variant"),
}
"""Code points (lower-case hexadecimal, no variation selector) of emoji that are no entity -> why."""

THING_NAMES: dict[str, str] = {
    "1f411": "sheep", "1f404": "cow", "1f417": "wild boar", "1f42b": "Bactrian camel", "1f43c": "giant panda",
    "1f54a": "dove", "1f996": "Tyrannosaurus", "1f421": "pufferfish", "1f41a": "seashell", "1f41b": "caterpillar",
    "1f41d": "bee", "1f41e": "ladybug", "1f347": "grape", "1f352": "cherry", "1fad0": "blueberry",
    "1f95d": "kiwifruit", "1f33d": "corn", "1f336": "chili pepper", "1f96c": "leafy vegetable", "1f95c": "peanut",
    "1fad8": "bean", "1fada": "ginger", "1fadb": "pea", "1f956": "baguette", "1f95e": "pancake", "1f9c0": "cheese",
    "1f969": "steak", "1f373": "fried egg in a pan", "1f360": "roasted sweet potato", "1f36f": "pot of honey",
    "1f95b": "glass of milk", "2615": "cup of coffee", "1f375": "cup of tea", "1f37e": "champagne bottle",
    "1f377": "glass of wine", "1f378": "cocktail", "1f37a": "mug of beer", "1f943": "glass of whisky",
    "1f371": "bento", "1f35a": "bowl of rice", "1f35b": "curry with rice", "1f35c": "bowl of noodles",
    "1f366": "soft ice cream", "1f36b": "chocolate bar", "1f962": "chopsticks", "1f964": "cup with straw",
    "1f37d": "plate with fork and knife", "1f30e": "globe", "1f310": "globe with meridians",
    "1f3d4": "snow-capped mountain", "1f5fb": "Mount Fuji", "1f6d5": "Hindu temple", "26e9": "Shinto shrine",
    "1f54b": "Kaaba", "1f301": "foggy bridge", "2668": "hot spring", "1f3d9": "city skyline",
    "1f697": "car", "1f69a": "truck", "1f69b": "articulated lorry", "1f6a8": "siren light",
    "1f6df": "life ring", "1f6f3": "passenger ship", "1f6a0": "cable car", "1f9f3": "suitcase", "231b": "hourglass",
    "1fa90": "Saturn", "1f30c": "Milky Way", "26c8": "thunderstorm", "1f327": "rain cloud", "1f328": "snow cloud",
    "1f329": "lightning cloud", "26f1": "beach umbrella", "26a1": "high voltage sign", "2603": "snowman",
    "1f4a7": "drop of water", "1f947": "gold medal", "1f0cf": "joker card", "1f3b2": "dice", "265f": "chess pawn",
    "1f3ad": "theatre masks", "1f3a8": "paint palette", "1f6f8": "flying saucer", "1f52b": "water pistol",
    "1f50a": "loudspeaker with sound waves", "1f4e2": "loudspeaker", "1f50d": "magnifying glass", "1f4bb": "laptop",
    "1f4d5": "closed book", "1f4da": "stack of books", "1f4c3": "sheet of paper", "1f4b5": "dollar banknote",
    "1f4eb": "mailbox", "1f4e5": "inbox tray", "1f5f3": "ballot box", "1f4c8": "rising chart", "1f512": "padlock",
    "1f3cf": "cricket bat and ball", "1f3be": "tennis ball", "1f3b3": "bowling ball and pins",
    "1f3d3": "table tennis paddle", "1f3f8": "badminton racket", "1f3d2": "ice hockey stick",
    "1f3d1": "field hockey stick", "1f94d": "lacrosse stick", "1f3ae": "game controller", "1f6cb": "couch",
    "1f9ec": "DNA", "1f98f": "rhinoceros", "1f9fd": "cleaning sponge", "1f997": "cricket",
    "1f492": "wedding chapel", "1f5bc": "framed picture", "1f45a": "blouse",
    "1f45e": "leather shoe", "1f461": "sandal", "1f462": "boot", "1f452": "sun hat", "26d1": "rescue helmet",
    "1f690": "van", "1f6f0": "satellite", "1f3bd": "running shirt", "1f93f": "diving mask", "1f94b": "judo uniform",
    "1f43e": "paw prints", "1f330": "chestnut", "1f6d6": "hut", "1f5fe": "map of Japan", "1f9ff": "nazar amulet",
    "1f4a1": "light bulb", "1f517": "chain link", "26d3": "chains", "1f4ae": "white flower stamp",
}  # fmt: skip
"""What a person would call the thing. The Unicode name becomes an alias."""

THING_ALIASES: dict[str, list[str]] = {
    "1f402": ["bull"], "1f413": ["cockerel"], "1f98f": ["rhino"], "1f99b": ["hippo"], "1f996": ["T. rex", "T-Rex"],
    "1f43c": ["panda", "panda bear"], "1f42b": ["two-humped camel"], "1f42a": ["dromedary"], "1f346": ["aubergine"],
    "1f33d": ["maize", "corn cob", "sweetcorn"], "1f336": ["chilli", "hot pepper"], "1f369": ["donut"],
    "1f354": ["burger", "cheeseburger"], "1f35f": ["chips", "fries"], "1f41e": ["ladybird"], "1f9f3": ["luggage"],
    "2708": ["plane", "aeroplane"], "1f695": ["cab", "taxicab"], "1f68a": ["streetcar"], "1f6a2": ["cruise ship"],
    "1f697": ["automobile"], "1f69a": ["lorry"], "1f692": ["fire truck"], "1f3cd": ["motorbike"], "1f6b2": ["bike"],
    "26bd": ["football"], "1f3c8": ["football"], "1f3be": ["tennis"], "1f3b3": ["bowling"], "1f3d3": ["ping pong"],
    "1f3f8": ["badminton", "shuttlecock"], "1f3d2": ["ice hockey"], "1f3d1": ["field hockey"], "1f94d": ["lacrosse"],
    "1f3cf": ["cricket"], "1f4f1": ["smartphone", "cell phone"], "1f4fa": ["TV"], "1f453": ["eyeglasses"],
    "1f45f": ["sneaker", "trainer"], "1f528": ["mallet"], "1f527": ["spanner"], "1f526": ["torch"],
    "1f5d1": ["rubbish bin", "trash can"], "1f5ff": ["Easter Island statue"], "1f955": ["carrots"],
    "1f990": ["prawn"], "1f54a": ["pigeon"], "1f42c": ["porpoise"], "1f9ad": ["sea lion"], "1f34a": ["mandarin"],
    "1f95c": ["peanuts"], "1f347": ["grapes"], "1f352": ["cherries"], "1fad0": ["blueberries"], "1f6f7": ["sledge"],
    "1f37e": ["champagne"], "1f377": ["wine"], "1f37a": ["beer"], "2615": ["coffee", "tea"], "1f375": ["green tea"],
    "1f943": ["whisky", "whiskey"], "1f95b": ["milk"], "1f36f": ["honey"], "1f360": ["sweet potato"],
    "1fa90": ["ringed planet"], "1f3ae": ["gamepad", "video game"], "1f6cb": ["sofa", "couch and lamp"],
    "1f5fc": ["Tokyo Tower"], "1f3ad": ["performing arts", "masks"], "1f40a": ["alligator"], "1f986": ["mallard"],
    "1f407": ["bunny"], "1f401": ["house mouse"], "1f983": ["turkey bird"], "1f9a9": ["pink flamingo"],
    "1f691": ["ambulance car"], "1f6d7": ["lift"], "1f376": ["sake bottle and cup"], "1f512": ["lock"],
    "1f33b": ["sunflower head"], "1f99d": ["racoon"], "1f419": ["cuttlefish"],
}  # fmt: skip
"""Answers a fair person would accept beside the name and the Unicode name."""

WIKI: dict[str, str | None] = {
    # a plain name that leads elsewhere
    "1f983": "Domestic turkey", "1f997": "Cricket (insect)", "1f95c": "Peanut", "1f9fd": None, "1f373": None,
    "1f492": None, "1f6a7": None, "1f3e6": "Bank", "1fabd": "Wing", "2b50": None, "1f3ae": "Video game",
    "1f3ad": "Theatre", "1f45b": None, "1f3b4": None, "1f397": None, "1f6aa": "Door", "1f4e2": "Loudspeaker",
    "1f3d5": "Camping", "1f388": None, "1f511": None, "1f527": None, "1f6e1": "Shield", "1f3de": "National park",
    "1f349": "Watermelon", "1f48d": None, "1f4b0": None, "1f4d3": None, "1f4c5": "Calendar", "1fa9d": None,
    "1f50b": "Electric battery", "1f5a8": "Printer (computing)", "1f5dc": "Clamp (tool)", "26ea": "Church (building)",
    "26f2": None, "1faa8": "Rock (geology)", "1f9f5": "Thread (textiles)", "1f9a1": "European badger",
    # animals
    "1f9ac": "American bison", "1f404": "Cattle", "1f402": "Cattle", "1f417": "Wild boar", "1f40f": "Sheep",
    "1f411": "Sheep", "1f42b": "Bactrian camel", "1f43c": "Giant panda", "1f413": "Chicken", "1f54a": "Columbidae",
    "1f99a": "Peafowl", "1f995": "Sauropoda", "1f996": "Tyrannosaurus", "1f9ad": "Pinniped", "1f421": "Tetraodontidae",
    "1f41d": "Bee", "1f41e": "Coccinellidae", "1fab1": "Earthworm", "1f9a0": None,
    # plants and food
    "1f33b": "Helianthus", "1f334": "Arecaceae", "1f341": "Maple", "1f33e": "Rice", "1f347": "Grape",
    "1f34a": "Mandarin orange", "1f34e": "Apple", "1f34f": "Apple", "1f352": "Cherry", "1fad0": "Blueberry",
    "1f95d": "Kiwifruit", "1f33d": "Maize", "1f336": "Chili pepper", "1fad8": "Bean", "1fada": "Ginger",
    "1fadb": "Pea", "1f9c0": "Cheese", "1f369": None, "1f357": "Poultry", "1f356": "Meat", "1f969": "Meat",
    "1f957": "Salad", "1f35a": "Rice", "1f35b": "Curry", "1f35c": "Noodle", "1f35d": "Pasta", "1f360": "Sweet potato",
    "1f372": "Stew", "1f36b": "Chocolate", "1f36f": "Honey", "1f95b": "Milk", "2615": "Coffee", "1f375": "Tea",
    "1f377": "Wine", "1f378": "Cocktail", "1f37a": "Beer", "1f943": "Whisky", "1f374": "Fork", "1f52a": "Knife",
    "1f366": "Ice cream", "1f382": "Cake", "1f364": "Shrimp",
    # places and transport
    "1f30e": "Globe", "1f5fa": "Map", "1f3d4": "Mountain", "1f3d6": "Beach", "1f3dd": "Island",
    "1f3d8": "House", "1f3e1": "House", "1f3ef": "Castle", "26e9": "Shinto", "1f309": "Bridge",
    "2668": "Hot spring", "1f3aa": "Circus", "1f685": "High-speed rail", "1f687": "Rapid transit",
    "1f697": "Car", "1f69a": "Truck", "1f6fb": "Truck", "1f690": "Van", "1f3ce": "Auto racing",
    "1f9bd": "Wheelchair", "1f9bc": "Wheelchair", "1f6fa": "Rickshaw", "1f6e2": "Petroleum", "26fd": None,
    "1f6e9": "Airplane", "23f0": "Clock", "1f570": "Clock", "23f1": None, "1f319": "Moon", "1f315": "Moon", "1fa90": "Saturn",
    "26c8": "Thunderstorm", "1f327": "Rain", "1f328": "Snow", "1f329": "Lightning", "1f30a": None,
    "1f302": "Umbrella", "26f1": "Umbrella", "1f6a5": None, "1f6a6": None,
    # activities
    "1f383": "Pumpkin", "26bd": "Association football", "1f3d3": "Table tennis",
    "1f3cf": "Cricket", "1f94a": "Boxing", "1f94b": "Judo", "26f3": "Golf", "26f8": "Ice skating", "1f3a3": "Fishing",
    "1f3bf": "Skiing", "1f94c": "Curling", "1f3af": None, "1f3b2": "Dice", "1f9f8": None, "1fa86": "Doll",
    "1f38e": "Doll", "265f": "Chess", "1f004": "Mahjong", "1f5bc": "Painting", "1faa1": "Sewing", "1f3ab": None,
    "1f3be": "Tennis", "1f3b3": "Bowling", "1f3f8": "Badminton", "1f3d2": "Ice hockey", "1f3d1": "Field hockey",
    "1f94d": "Lacrosse", "1f9e9": "Puzzle", "1f386": "Fireworks",
    # objects
    "1f9e4": "Glove", "1f9e6": "Sock", "1fa71": "Swimsuit", "1f456": "Trousers", "1f45e": "Shoe", "1f45f": "Shoe",
    "1f97f": "Shoe", "1f460": "Shoe", "1f462": "Boot", "1f97e": "Boot", "1f452": "Hat", "1f3a9": "Hat",
    "1fa96": "Helmet", "26d1": "Helmet", "1f48e": "Gemstone", "1f399": "Microphone",
    "1fa98": "Drum", "1f4de": "Telephone", "1f4bb": "Personal computer", "1f5a5": "Computer",
    "2328": "Computer keyboard", "1f4bf": "Optical disc", "1f4a1": "Incandescent light bulb", "1f4d5": "Book",
    "1f4d6": "Book", "1f4da": "Book", "1f4c3": "Paper", "1f4b5": "Money", "1f4b8": "Money", "2709": "Mail",
    "1f4e7": "Email", "1f58b": "Pen", "1f4cf": "Ruler", "1f512": "Lock and key", "2694": "Sword", "1fa9a": "Saw",
    "2696": "Weighing scale", "26d3": "Chain", "1fa78": "Blood", "1fa79": "Bandage", "1f6cb": "Couch",
    "1f9fb": None, "1f528": "Hammer", "1f6d2": "Cart", "1f4f9": "Video camera",
    "1f58c": "Brush", "1f4fd": "Film", "1f39e": "Film", "1f4ae": None,
}  # fmt: skip
"""Code point -> title of the Wikipedia lead about the thing. Not listed: the display name is tried as a title."""

KNOWN_FLAGS: list[str] = (
    "JP CA BR GB US IN CN KR ZA CH GR IL TR SA KE MX AR AU NP SE NO FI DK ES PT UA IT FR DE NL BE PL IE JM CU EG MA "
    "PK BD LK VN TH MY PH NZ CL CO PE VE EC UY PA BT KZ MN SC MZ AO ZW UG RW TZ NG GH SN CM ET DZ TN LB JO CY AL"
).split()
"""Flags worth knowing by heart, best first: the first ones that fall into train become `known`."""

KNOWN_THINGS: list[str] = (
    "1f418 1f981 1f405 1f992 1f993 1f427 1f98a 1f43c 1f428 1f419 1f98b 1f40d 1f422 1f988 1f433 1f40a 1f42a 1f99c 1f989 "
    "1f34c 1f34d 1f353 1f349 1f34b 1f347 1f955 1f966 1f344 1f335 1f337 1f339 1f355 1f354 1f363 1f369 1f680 1f681 1f6b2 "
    "1f69c 1f691 1f682 1f308 1f30b 1f3b8 1f3ba 1f3bb 1f3b7 1f941 1f52c 1f52d 1f528 2702 1f512 1f511 1f453 1f302 1f3c0 "
    "26bd 1f3af 1f3b2 1f4f7 1f4fa 260e 1f6bd 1f6cf 1f9f2 1f9ee"
).split()
"""Things worth knowing by heart, best first."""

KNOWN_COUNTS: dict[str, int] = {"flag": 40, "thing": 30}
