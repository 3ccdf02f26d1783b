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
