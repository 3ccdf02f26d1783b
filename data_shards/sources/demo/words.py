"""Word lists behind the built-in data: what is spoken and what is asked in text."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


WORDS = _words(
    "apple baby bird boat book bread chair clock cloud coffee "
    "door dress fish flower garden guitar hand horse house key "
    "lamp letter money moon morning mountain orange paper pencil phone "
    "rain river school shoe sugar summer table train water window"
)
CAPITALS = _pairs(
    "France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon Greece:Athens "
    "Austria:Vienna Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen "
    "Poland:Warsaw Hungary:Budapest Ireland:Dublin Russia:Moscow Turkey:Ankara Egypt:Cairo "
    "Kenya:Nairobi Japan:Tokyo China:Beijing India:Delhi Thailand:Bangkok Vietnam:Hanoi "
    "Canada:Ottawa Cuba:Havana Peru:Lima Chile:Santiago Australia:Canberra Iran:Tehran "
    "Iraq:Baghdad Belgium:Brussels Bulgaria:Sofia Romania:Bucharest Ukraine:Kyiv"
)
OPPOSITES = _pairs(
    "hot:cold big:small up:down fast:slow early:late open:closed full:empty happy:sad "
    "light:dark left:right old:young rich:poor strong:weak hard:soft high:low wet:dry "
    "loud:quiet long:short near:far day:night first:last clean:dirty thick:thin wide:narrow "
    "true:false begin:end win:lose buy:sell push:pull love:hate"
)
PLURALS = _pairs(
    "cat:cats dog:dogs box:boxes child:children mouse:mice foot:feet tooth:teeth man:men "
    "woman:women city:cities leaf:leaves knife:knives bus:buses baby:babies sheep:sheep "
    "goose:geese tomato:tomatoes wolf:wolves"
)
PASTS = _pairs(
    "go:went eat:ate see:saw run:ran take:took give:gave write:wrote buy:bought sing:sang "
    "swim:swam speak:spoke think:thought bring:brought find:found make:made come:came"
)
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
NUMBERS = _words("zero one two three four five six seven eight nine ten eleven twelve")
STEPS = _words(  # of the diagrams
    "plan build test wash rinse dry fold mix bake cool serve read think send dig pick cut glue "
    "sand pack load drive wait rest sort weigh"
)
COLOURS = _words("red blue green yellow white black brown grey pink purple")
NAMES = _words(
    "Anna Ben Carla David Emma Frank Grace Henry Ida James Kate Leo Maria Nick Olga Paul Ruth "
    "Sam Tina Walter"
)
PEOPLE = _words(
    "aunt boy brother cook doctor driver farmer father friend girl judge king mother neighbour "
    "nurse painter pilot queen sailor singer sister soldier student teacher uncle"
)
PLACES = _words(
    "airport bakery bank beach bridge castle church cinema farm forest harbour hospital hotel "
    "kitchen lake library market museum office park shop stadium station theatre tower village zoo"
)
PREPOSITIONS = ("on", "under", "behind", "beside", "near", "above", "in front of", "next to")
THINGS = _words(
    "bag basket bear bed bell bicycle blanket bottle bowl brush bucket butter butterfly button "
    "cake camel camera candle carpet carrot cheese cherry chicken coat cow cup curtain deer desk "
    "doll donkey drum duck eagle egg elephant engine envelope fan fence finger flag fork fox frog "
    "glass glove goat grape hammer hat helmet hen honey insect jacket kettle kite ladder leaf "
    "lemon lion lizard lock melon milk mirror monkey mushroom music nail needle nest onion oven "
    "owl parrot peach pear piano pig pillow pipe plane plate potato pump rabbit rice ring road "
    "rocket roof rope ruler sand saw scarf ship shirt snail snake snow soap sock sofa spider spoon "
    "stone suitcase sword tent tiger towel toy tractor truck trumpet turtle umbrella vase violin "
    "wagon wall watch whale wheel whistle zebra"
)
# every word and letter of the source recordings, whose speakers evaluation holds out
RECORDED = _words(
    "A activated added agent alien alpha ampersand anchovy and April arch arm asterisk astronaut "
    "at August B backslash backtick bacon ball bicycle billion billionth birds bow boy bravo "
    "bridge broccoli C calling camel cancelled car caret cart charlie cheese coat colon column "
    "comma console cucumber cyclist D dash de-activated December delta disabled dog dollar "
    "dollars donkey dot E ear earring earth echo eight eighteen eighteenth eighth eightieth "
    "eighty eleven eleventh enabled equals extension eyebrow F family February fifteen fifteenth "
    "fifth fiftieth fifty first five fix flower fortieth forty four fourteen fourteenth fourth "
    "foxtrot Friday friends from G gas gem girl golf goodbye grass H hair hat hello hot hotel "
    "hours hundred hundredth hut I india is J January jet jingle juliet July June K key kilo L "
    "last lima local location lowercase M man March May me message messages mike million "
    "millionth minus minute minutes Monday monster moonwalker moustache mouth mushroom my N new "
    "nine niner nineteen nineteenth ninetieth ninety ninth no nose November number O o'clock "
    "oasis October old olive one onion or oregano oscar P papa password pause paused pepper "
    "pepperoni percent pet pineapple pipe planet playback plus pound press pyramid Q quebec quote "
    "R radar received record removed road rocket romeo S salami satellite Saturday saved saw say "
    "second seconds semicolon September seven seventeen seventeenth seventh seventieth seventy "
    "shoe shorts sierra sign sit six sixteen sixteenth sixth sixtieth sixty skinny skirt sky "
    "slash space spectacles speed-dial sphinx star stick Sunday sunglasses T tango ten tenth the "
    "third thirteen thirteenth thirtieth thirty thousand thousandth three Thursday tick tie tilde "
    "time today tomato tomorrow train transfer tree Tuesday twelfth twelve twentieth twenty two U "
    "ufo umbrella underscore uniform unistim uppercase urgent V victor W Wednesday well whiskey "
    "with woman work X xray Y yankee yesterday your Z zap zero zulu"
)
