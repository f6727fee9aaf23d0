"""How people ask: every relation in many wordings, some kept for the test split.

Invariant: a wording's id (`capital/3`) never changes meaning, because trained models and reports refer to it; append,
do not insert. `reserved` wordings appear in no training or validation task.

The tables are text so that they read like the questions they make. In each block the first line is the formal query
words (what the page calls it). Then one wording a line: `!` in front marks a reserved one, and `~ question => words` is a
lay wording with the words that a person would type first. `{C}` stands for the country, `{X}` for the thing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal


@dataclass(frozen=True)
class Phrasing:
    """One wording of one relation."""

    id: str
    """`relation/number`; lay wordings are `relation/lay-number`."""
    relation: str
    text: str
    """With one placeholder: `{C}`, `{X}` or, for scene questions, `{T}`."""
    reserved: bool
    """True: used by the test split only."""
    lay_query: str = ""
    """What a person would type first; empty for formal wordings."""


COUNTRY = """
capital: capital city
What is the capital of {C}?
What's the capital city of {C}?
Which city is the capital of {C}?
Name the capital of {C}.
Which city serves as the capital of {C}?
Tell me the capital of {C}.
The capital of {C} is which city?
What city is the seat of national government in {C}, i.e. its capital?
!Can you name the capital city of {C}?
!Which capital would you fly to for a state visit to {C}?
!I need the name of the capital of {C}.
~ Where does the government of {C} sit? => where the government sits
~ Which town do diplomats move to when they are posted to {C}? => town where diplomats are posted
~ Which city is the most important one politically in {C}? => most important city politically
!~ In which city would I find the parliament and ministries of {C}? => which city has parliament and ministries

official_name: official name
What is the official name of {C}?
What is the full official name of {C}?
What is {C} officially called?
Give the formal long name of {C}.
How is {C} named in full, officially?
Under which official name is {C} listed?
State the official long-form name of {C}.
What is the complete official name of {C}?
!Which long official name does {C} carry?
!What is {C} called in formal documents?
!Please give me the full official country name of {C}.
~ How does {C} sign a treaty, in full? => signs treaties as in full
~ What do ambassadors call {C} on solemn occasions? => called by ambassadors on solemn occasions
!~ What does it say on the passports of {C}, in full? => written in full on passports

former_name: former name
What was {C} formerly called?
What is a former name of {C}?
Under what name was {C} known in the past?
What did {C} use to be called?
Which name did {C} have before?
Give a former name of {C}.
What was the old name of {C}?
By which earlier name was {C} known?
!What name did {C} go by formerly?
!How was {C} called before it got its present name?
!Which former name is recorded for {C}?
~ What would my grandfather's atlas print across {C}? => old atlas printed
~ What stood on maps where {C} is today? => on old maps where it is today
!~ As what did colonial maps show {C}? => colonial maps showed

independence: independence date
When did {C} become independent?
On what date did {C} gain independence?
What is the independence date of {C}?
When did {C} win its independence?
On which day did {C} become an independent state?
Since which date has {C} been independent?
Give the date of independence of {C}.
What is the date on which {C} became independent?
!What date marks the independence of {C}?
!When exactly was {C} granted or did it declare independence?
!On which calendar date did {C} achieve independence?
~ When did {C} stop being ruled by others? => stopped being ruled by others
~ Since when has {C} stood on its own feet? => standing on its own since when
~ When did foreign rule end in {C}? => foreign rule ended
!~ When did {C} break free? => broke free when

holiday: national holiday
On what day is the national holiday of {C}?
When is the national holiday of {C} celebrated?
What is the date of the national holiday in {C}?
On which date does {C} celebrate its national holiday?
Which day of the year is the national holiday of {C}?
When does {C} have its national holiday?
Give the day and month of the national holiday of {C}.
What day and month is the national holiday in {C}?
!On what calendar day does the national holiday of {C} fall?
!When do the people of {C} mark their national holiday?
!Tell me the date of the main national holiday of {C}.
~ When are the big fireworks and parades in {C}? => fireworks and parades day
~ On which day are all the shops in {C} shut because the nation celebrates itself? => shops shut day nation celebrates
!~ When does {C} throw its yearly party for itself? => yearly party of the nation

anthem: national anthem
What is the national anthem of {C}?
What is the name of the national anthem of {C}?
Which anthem does {C} have?
What is the title of the national anthem of {C}?
How is the national anthem of {C} called?
Name the national anthem of {C}.
Which song is the national anthem of {C}?
What is the anthem of {C} called?
!What title does the anthem of {C} bear?
!Which national anthem is sung in {C}?
!Tell me the name of the anthem that stands for {C}.
~ What do athletes from {C} hear when they win gold? => song athletes hear when they win gold
~ What is played before the football team of {C} kicks off? => played before football team kicks off
~ Which song do people in {C} stand up for at ceremonies? => song people stand up for at ceremonies
!~ What does the military band play when the president of {C} arrives? => military band plays when president arrives

symbol: national symbol
What is the national symbol of {C}?
Which animal, plant or object is the national symbol of {C}?
What serves as the national symbol of {C}?
Name the national symbol of {C}.
What symbol is the national symbol of {C}?
Which symbol stands for {C}?
What has {C} chosen as its national symbol?
What is listed as the national symbol of {C}?
!What is regarded as the national symbol of {C}?
!Which national symbol does {C} have?
!What emblem is the national symbol of {C}?
~ What creature or thing stands for {C} on crests? => creature on crests
~ Which mascot does {C} put on its coins? => mascot on coins
!~ What is the emblematic creature or object of {C}? => emblematic creature or object

legislature: legislature
What is the legislature of {C} called?
What is the name of the legislature of {C}?
Which legislature does {C} have?
How is the legislature of {C} called?
Name the legislative body of {C}.
What is the legislature of {C}?
Which body is the legislature of {C}?
What name does the legislature of {C} have?
!By what name is the legislature of {C} known?
!Which body makes the laws as the legislature of {C}?
!Tell me what the legislature of {C} is named.
~ Who passes the laws in {C}? => who passes laws
~ What is the house of deputies that debates bills in {C} called? => house where deputies debate bills
!~ Which assembly votes on the budget in {C}? => assembly votes budget

seats: legislature seats
How many seats does the legislature of {C} have?
How many members sit in the legislature of {C}?
What is the number of seats in the legislature of {C}?
How many seats are there in the legislature of {C}?
How large is the legislature of {C}, in seats?
Give the number of legislature seats in {C}.
How many legislators can sit in the legislature of {C}?
What is the total number of legislature seats in {C}?
!How many seats make up the legislature of {C}?
!State how many seats the legislature of {C} counts.
!Of how many seats does the legislature of {C} consist?
~ How many politicians make the laws in {C}? => how many politicians make laws
~ How many people get elected or sent to vote on laws in {C}? => how many people vote on laws
!~ How many chairs need to be in the room when all lawmakers of {C} meet? => how many chairs for lawmakers

lower_seats: lower chamber seats
How many seats does the lower chamber of parliament in {C} have?
How many members sit in the lower chamber of {C}?
What is the number of seats in the lower chamber of {C}?
How many seats are there in the lower house of {C}?
How large is the lower chamber of {C}, in seats?
Give the number of lower chamber seats in {C}.
How many deputies can sit in the lower chamber of {C}?
What is the total number of seats of the lower chamber in {C}?
!How many seats make up the lower chamber of {C}?
!State how many seats the lower chamber of {C} counts.
!Of how many seats does the lower chamber of {C} consist?

time_zone: time zone
What time zone is the capital of {C} in?
Which time zone does {C} use in its capital?
What is the UTC offset of {C}?
In which time zone is {C}?
What is the time zone of {C}, relative to UTC?
How far is {C} from UTC?
Give the UTC time zone of the capital of {C}.
Which UTC offset applies in the capital of {C}?
!By what offset from UTC does the capital of {C} set its clocks?
!What is the standard time zone in {C}?
!Which UTC time zone is observed in {C}?
~ How do I have to set my watch when I land in {C}? => set watch when landing
~ What do clocks in {C} show compared with Greenwich? => clocks compared with Greenwich
!~ How many hours must I shift my clock for {C}? => shift clock hours

heritage: World Heritage Sites
How many World Heritage Sites does {C} have?
How many UNESCO World Heritage Sites are in {C}?
What is the number of World Heritage Sites in {C}?
How many World Heritage Sites are there in {C}?
How many sites in {C} are on the World Heritage list?
Give the number of World Heritage Sites of {C}.
How many World Heritage Sites are listed for {C}?
What is the total of World Heritage Sites in {C}?
!How many entries on the World Heritage list belong to {C}?
!Count of UNESCO World Heritage Sites in {C}?
!State how many World Heritage Sites {C} has.
~ How many protected wonders does {C} have on the famous UN list? => protected wonders on famous UN list
~ How many places in {C} carry the blue and white UN plaque for treasures of mankind? => places with plaque treasures of mankind
!~ How many spots in {C} has the UN declared treasures of mankind? => treasures of mankind declared

highest_point: highest point
What is the highest point of {C}?
What is the highest mountain or point in {C}?
Name the highest point in {C}.
Which place is the highest point of {C}?
Where is the highest point of {C}?
What is the name of the highest point in {C}?
Which peak is the highest point of {C}?
What is the highest elevation of {C} called?
!At which place does {C} reach its highest point?
!Which summit or spot is the highest point in {C}?
!Tell me the name of the highest point of {C}.
~ Which summit do climbers in {C} dream of? => summit climbers dream of
~ Where would I stand closest to the sky in {C}? => closest to the sky
~ Which mountain towers over {C}? => mountain towers over everything
!~ What is the tallest peak in {C}? => tallest peak

highest_metres: highest point
How high is the highest point of {C}?
What is the elevation of the highest point in {C}?
How many metres high is the highest point of {C}?
What height does the highest point of {C} reach?
How high does {C} rise at its highest point?
What is the altitude of the highest point of {C} in metres?
Give the height of the highest point in {C}.
How many metres above sea level is the highest point of {C}?
!To what elevation does the highest point of {C} rise?
!How tall is {C} at its highest point, in metres?
!At what altitude is the highest point of {C}?
~ How far up does one have to climb to stand on the roof of {C}? => how far to climb roof of the country
~ How tall is the tallest peak in {C}? => tallest peak how tall
!~ How far above the sea can one get on foot in {C}? => how far above the sea on foot

lowest_point: lowest point
What is the lowest point of {C}?
Name the lowest point in {C}.
Which place is the lowest point of {C}?
Where is the lowest point of {C}?
What is the name of the lowest point in {C}?
What is listed as the lowest point of {C}?
Which water or place marks the lowest point in {C}?
What is the lowest elevation of {C} called?
!At which place does {C} reach its lowest point?
!Which spot is the lowest point in {C}?
!Tell me the name of the lowest point of {C}.
~ Where would all the water in {C} run to, the deepest-lying spot? => deepest lying spot
!~ Which place in {C} lies deepest? => place lying deepest

mean_elevation: mean elevation
What is the mean elevation of {C}?
What is the average elevation of {C}?
How high is {C} on average?
What is the mean height of {C} above sea level?
How many metres is the mean elevation of {C}?
Give the mean elevation of {C}.
What mean elevation does {C} have?
What is the mean elevation of {C} in metres?
!At what mean elevation does {C} lie?
!How many metres above sea level is {C} on average?
!State the mean elevation of {C}.
~ How high up do people in {C} typically live? => how high up land typically is
!~ How far above the sea is the ground in {C}, taken all together? => how far above the sea is the ground

area: total area
What is the total area of {C}?
How large is {C} in square kilometres?
What is the area of {C}?
How many square kilometres does {C} cover?
How big is the total area of {C}?
Give the total area of {C}.
What total area does {C} have?
What is the size of {C} in square kilometres?
!Over how many square kilometres does {C} extend?
!What is the surface area of {C}, land and water together?
!State the total area of {C} in sq km.
~ How big is {C}? => how big
~ How much ground does {C} take up on the globe? => how much ground on the globe
!~ How large a place is {C}? => how large a place

coastline: coastline length
How long is the coastline of {C}?
What is the length of the coastline of {C}?
How many kilometres of coastline does {C} have?
What is the coastline length of {C}?
How many kilometres long is the coast of {C}?
Give the length of the coastline of {C}.
How long is the coast of {C}?
What is the total coastline of {C} in km?
!How much coastline does {C} have?
!Over how many kilometres does the coastline of {C} run?
!State the coastline length of {C}.
~ How far would I walk along the beaches and cliffs all around {C}? => walk along beaches and cliffs
~ How much seaside does {C} have? => how much seaside
!~ How long is the shore of {C}? => shore how long

land_boundary: land boundaries
How long are the land boundaries of {C} in total?
What is the total length of the land boundaries of {C}?
How many kilometres of land boundaries does {C} have?
What is the total length of the land borders of {C}?
How long is the land border of {C} altogether?
Give the total length of the land boundaries of {C}.
How many kilometres do the land boundaries of {C} measure?
What is the total land boundary length of {C}?
!How much land boundary does {C} have in kilometres?
!Over how many kilometres do the land boundaries of {C} run?
!State the total length of land boundaries of {C}.
~ How long would a fence be that keeps all neighbours out of {C}? => fence to keep neighbours out
~ How far would a patrol walk along the frontier of {C}? => patrol along frontier
!~ How long is the frontier of {C} with all its neighbours? => frontier with neighbours how long

forest: forest cover
How much of {C} is covered by forest?
What share of {C} is forest?
What percentage of {C} is forest?
What is the forest cover of {C}?
How large is the forest share of the land in {C}?
Give the forest cover of {C} in percent.
What part of the land of {C} is forest?
How many percent of {C} is forested?
!What is the percentage of forest in {C}?
!To what extent is {C} forested, in percent?
!State the forest cover of {C}.
~ How green with trees is {C}? => how green with trees
~ What portion of {C} would I find under trees? => portion under trees
!~ How much woodland is there in {C}? => woodland how much

population: population
What is the population of {C}?
How many people live in {C}?
How many inhabitants does {C} have?
How large is the population of {C}?
What is the total population of {C}?
Give the population of {C}.
What population does {C} have?
What is the number of inhabitants of {C}?
!How many people are counted in the population of {C}?
!What is the size of the population of {C}?
!State the population of {C}.
~ How crowded with folks is {C}, in heads? => how many heads folks
~ How many mouths are there to feed in {C}? => how many mouths to feed
!~ How many souls call {C} home? => how many souls call it home

median_age: median age
What is the median age in {C}?
What is the median age of people in {C}?
How high is the median age in {C}?
Half of the people in {C} are younger than what age, the median?
What median age does {C} have?
Give the median age in {C}.
What is the median age of the population of {C}?
How many years is the median age in {C}?
!At what age does the median lie in {C}?
!How old is the median inhabitant of {C}?
!State the median age for {C}.
~ How old is a typical person in {C}? => how old is typical person
~ Are people young or old in {C}: how many years is the one in the middle? => young or old person in the middle
!~ How old is the person in the middle in {C} if all line up by birthday? => person in the middle by birthday

life_expectancy: life expectancy
What is the life expectancy in {C}?
What is the life expectancy at birth in {C}?
How high is life expectancy in {C}?
How many years is the life expectancy in {C}?
What life expectancy does {C} have?
Give the life expectancy at birth in {C}.
What is the average life expectancy in {C}?
How long is the life expectancy at birth in {C}?
!For how many years does life expectancy at birth in {C} stand?
!What is the total life expectancy at birth for {C}?
!State the life expectancy in {C}.
~ How long do people in {C} live? => how long do people live
~ How old can a baby in {C} hope to get? => how old can a baby hope to get
!~ What age do people usually reach in {C}? => what age do people usually reach

fertility: total fertility rate
What is the total fertility rate of {C}?
What is the fertility rate in {C}?
How high is the total fertility rate in {C}?
What is the number of children born per woman in {C}?
How many children are born per woman in {C}?
Give the total fertility rate of {C}.
What total fertility rate does {C} have?
What is the fertility rate in {C}, in children per woman?
!How many children does the total fertility rate of {C} amount to?
!At what level is the total fertility rate of {C}?
!State the total fertility rate for {C}.
~ How many kids do mothers in {C} have? => how many kids mothers have
~ How big are families in {C}? => how big are families
!~ How many babies does a mum in {C} get over her life? => babies a mum gets

urban: urban population share
What share of the population of {C} is urban?
What percentage of people in {C} live in urban areas?
How large is the urban population share of {C}?
What is the urban population share in {C}?
How much of the population of {C} is urban?
Give the urban population share of {C}.
What part of the population of {C} is urban, in percent?
How many percent of the population of {C} is urban?
!What percentage of the population of {C} is urban?
!How urban is {C}, as a share of its population?
!State the urban population share of {C}.
~ How many people in {C} live in towns rather than villages, in percent? => live in towns rather than villages
~ What portion of the folks in {C} are city dwellers? => portion of city dwellers
!~ How many townspeople does {C} have, in percent? => townspeople percent

nationality: nationality
What is the nationality of people from {C}?
What is a person from {C} called?
What do you call a citizen of {C}?
Which nationality do people from {C} have?
What is the noun for the nationality of {C}?
Give the nationality noun for {C}.
How is a national of {C} called?
What nationality has someone born a citizen of {C}?
!What is the word for a citizen of {C}?
!By which nationality noun are people from {C} known?
!State the nationality of the people of {C}.
~ How do I address folks from {C}? => how to address folks
!~ What are folks from {C} known as? => folks are known as

currency: currency
What is the currency of {C}?
Which currency is used in {C}?
What currency does {C} use?
What is the name of the currency of {C}?
In which currency do people in {C} pay?
Name the currency of {C}.
Which currency does {C} have?
What is the official currency of {C}?
!What currency circulates in {C}?
!Which currency are exchange rates of {C} quoted for?
!Tell me the currency used in {C}.
~ What money do I need in my wallet in {C}? => money in wallet
~ What do people in {C} pay with at the market? => pay with at the market
~ Which notes and coins do I need in {C}? => notes and coins
!~ What cash should I carry in {C}? => cash to carry

currency_code: currency
What is the three-letter code of the currency of {C}?
Which currency code does {C} use?
What is the currency code of {C}?
What is the code of the currency used in {C}?
Give the three-letter currency code of {C}.
Which three-letter code stands for the currency of {C}?
How is the currency of {C} abbreviated, in three letters?
What code does the currency of {C} have?
!By what three-letter code is the currency of {C} known?
!Which code do banks write for the currency of {C}?
!State the currency code of {C}.
~ Which three letters stand behind prices in {C}? => three letters behind prices
!~ Which three letters does a bank write for the money of {C}? => three letters banks write for money

gdp: GDP
What is the GDP of {C}?
How large is the GDP of {C}?
What is the gross domestic product of {C} at the official exchange rate?
How high is the gross domestic product of {C}?
How big is the GDP of {C} in US dollars?
Give the GDP of {C}.
What GDP does {C} have?
What is the gross domestic product of {C}?
!At how many dollars does the GDP of {C} stand?
!What does the gross domestic product of {C} amount to?
!State the GDP of {C} at the official exchange rate.
~ How much is everything worth that {C} produces in a year? => worth of everything produced in a year
~ How rich is {C} as a whole? => how rich as a whole
!~ How much money does {C} make in a year? => how much money made in a year

export_partner: export partners
Which country is the biggest export partner of {C}?
Who is the main export partner of {C}?
Which export partner of {C} comes first?
Which country takes most of the exports of {C}?
What is the largest export partner of {C}?
Name the top export partner of {C}.
To which export partner does {C} sell most?
Which country is the first export partner of {C}?
!Which country heads the list of export partners of {C}?
!Who ranks first among the export partners of {C}?
!Which is the leading export partner of {C}?
~ Who buys most of what {C} sells? => who buys most
~ Where do most goods from {C} go? => where most goods go
!~ Who is the best customer of {C}? => best customer

export_commodity: export commodities
What is the main export commodity of {C}?
Which export commodity of {C} comes first?
What is the top export commodity of {C}?
Which commodity does {C} export most?
What is the largest export commodity of {C}?
Name the first export commodity of {C}.
Which product heads the export commodities of {C}?
What is the leading export commodity of {C}?
!Which commodity ranks first among the exports of {C}?
!What is the most important export commodity of {C}?
!State the top export commodity of {C}.
~ What does {C} mostly sell abroad? => mostly sold abroad
~ Which ware brings most money to {C} from other countries? => ware that brings most money
!~ What do ships leaving {C} mostly carry? => ships leaving mostly carry

farm_product: agricultural products
What is the first agricultural product of {C}?
Which agricultural product of {C} is listed first?
What is the main agricultural product of {C}?
Which agricultural product comes first in {C}?
What is the top agricultural product of {C}?
Name the leading agricultural product of {C}.
Which product heads the agricultural products of {C}?
What agricultural product does {C} produce most?
!Which agricultural product ranks first in {C}?
!What is the most important agricultural product of {C}?
!State the top agricultural product of {C}.
~ What do farmers in {C} mostly bring home? => farmers mostly bring home
~ What grows or is milked most in {C}? => grown or milked most
!~ What do peasants in {C} produce most of? => peasants produce most

domain: internet country code
What is the internet country code of {C}?
Which internet domain does {C} have?
What is the internet domain of {C}?
What is the country-code domain of {C}?
Which internet country code belongs to {C}?
Give the internet country code of {C}.
What top-level domain does {C} use?
How does the internet country code of {C} read?
!Which country code do internet addresses of {C} have?
!What is the top-level internet country code for {C}?
!State the internet domain of {C}.
~ What do web addresses from {C} end in? => web addresses end in
~ Which letters come after the dot on websites from {C}? => letters after the dot on websites
!~ What comes after the last dot in a web address from {C}? => after the last dot in web address

internet_users: internet users
What percentage of people in {C} are internet users?
How many percent of the population of {C} use the internet?
What share of {C} are internet users?
How large is the share of internet users in {C}?
What is the percentage of internet users in {C}?
Give the share of internet users in {C}.
What part of the population of {C} are internet users?
How many people in {C} are internet users, in percent?
!At what percentage does the share of internet users in {C} stand?
!Which percentage of the population are internet users in {C}?
!State the percentage of internet users in {C}.
~ How many people in {C} are online, in percent? => how many people online
~ What portion of folks in {C} surf the web? => portion of folks surfing the web
!~ How connected to the web are people in {C}, in percent? => connected to the web

mobile_phones: mobile phone subscriptions
How many mobile phone subscriptions are there in {C}?
What is the number of mobile phone subscriptions in {C}?
How many mobile phone subscriptions does {C} have?
How large is the number of mobile phone subscriptions in {C}?
How many subscriptions to mobile phones are counted in {C}?
Give the number of mobile phone subscriptions in {C}.
What is the total of mobile phone subscriptions in {C}?
How many mobile cellular subscriptions does {C} count?
!To how many does the number of mobile phone subscriptions in {C} amount?
!What number of mobile phone subscriptions is reported for {C}?
!State the mobile phone subscriptions of {C}.
~ How many SIM cards are in use in {C}? => SIM cards in use
~ How many handsets ring in {C}? => how many handsets ring
!~ How many cell contracts are there in {C}? => cell contracts

airports: airports
How many airports does {C} have?
How many airports are there in {C}?
What is the number of airports in {C}?
How many airports are in {C}?
How many airports can be found in {C}?
Give the number of airports in {C}.
What is the total number of airports in {C}?
How many airports are counted in {C}?
!At how many airports can planes land in {C}?
!How many airports are reported for {C}?
!State the number of airports of {C}.
~ In how many places can a plane land in {C}? => places where a plane can land
~ How many runways with a terminal does {C} have? => runways with a terminal
!~ How many landing fields are there in {C}? => landing fields

heliports: heliports
How many heliports does {C} have?
How many heliports are there in {C}?
What is the number of heliports in {C}?
How many heliports are in {C}?
How many heliports can be found in {C}?
Give the number of heliports in {C}.
What is the total number of heliports in {C}?
How many heliports are counted in {C}?
!At how many heliports can one land in {C}?
!How many heliports are reported for {C}?
!State the number of heliports of {C}.
~ In how many places can helicopters land in {C}? => places where helicopters land
!~ How many landing pads for choppers are in {C}? => landing pads for choppers

railways: railways length
How long is the railway network of {C}?
How many kilometres of railways does {C} have?
What is the total length of railways in {C}?
How long are the railways of {C} in total?
What is the length of the railways in {C}?
Give the total length of the railways of {C}.
How many kilometres do the railways of {C} measure?
What is the total railway length of {C}?
!Over how many kilometres do the railways of {C} run?
!How extensive are the railways of {C}, in km?
!State the length of the railways in {C}.
~ How far could a train go in {C} if it used every track once? => train using every track
~ How much track can trains use in {C}? => how much track for trains
!~ How long are all the train tracks of {C} put together? => train tracks put together

aircraft_prefix: aircraft registration prefix
What is the aircraft registration prefix of {C}?
Which aircraft registration prefix does {C} use?
What is the civil aircraft registration prefix of {C}?
With which prefix are aircraft from {C} registered?
Which prefix marks aircraft registered in {C}?
Give the aircraft registration prefix of {C}.
What prefix do civil aircraft registrations of {C} have?
What is the registration prefix for aircraft of {C}?
!Which registration prefix do civil aircraft of {C} carry?
!By what prefix is an aircraft registered in {C} known?
!State the aircraft registration prefix of {C}.
~ What is painted first on the tail of planes from {C}? => painted on tail of planes
~ With which letters do the markings on planes from {C} begin? => letters on planes markings begin
!~ What do the markings on a plane from {C} start with? => plane markings start with

merchant_ships: merchant marine ships
How many merchant marine ships does {C} have?
How many ships does the merchant marine of {C} have?
What is the number of ships in the merchant marine of {C}?
How large is the merchant marine of {C}, in ships?
How many ships are in the merchant marine of {C}?
Give the number of merchant marine ships of {C}.
What is the total number of merchant marine ships of {C}?
How many ships make up the merchant marine of {C}?
!Of how many ships does the merchant marine of {C} consist?
!How many merchant marine ships are reported for {C}?
!State the number of ships of the merchant marine of {C}.
~ How many freighters and tankers fly this flag, of {C}? => how many freighters and tankers
~ How many trading vessels sail for {C}? => trading vessels sailing
!~ How many cargo vessels does {C} have at sea? => cargo vessels at sea

ports: total ports
How many ports does {C} have?
How many ports are there in {C}?
What is the total number of ports in {C}?
How many ports are in {C} in total?
How many ports can be found in {C}?
Give the total number of ports in {C}.
What is the number of ports in {C}?
How many ports are counted in {C}?
!What number of ports is reported for {C}?
!How many ports in total does {C} count?
!State the total number of ports of {C}.
~ In how many harbours can a ship unload in {C}? => harbours where a ship can unload
!~ At how many docks along the coast can ships call in {C}? => docks where ships call
"""

THING = """
family: family
Which family does {X} belong to?
What is the scientific family of {X}?
To which biological family does {X} belong?
In which family is {X} classified?
What family is {X} in, in biology?
Name the family of {X}.
Under which family is {X} classified?
Which taxonomic family includes {X}?
!What is the taxonomic family of {X}?
!Biologists place {X} in which family?
!Into which family do scientists put {X}?
~ Who are the kin of {X}, in the Latin of scientists? => kin in Latin
!~ Which Latin clan does {X} come from? => Latin clan

genus: genus
Which genus does {X} belong to?
What is the scientific genus of {X}?
To which genus does {X} belong?
In which genus is {X} classified?
What genus is {X} in, in biology?
Name the genus of {X}.
Under which genus is {X} classified?
Which taxonomic genus includes {X}?
!What is the taxonomic genus of {X}?
!Biologists place {X} in which genus?
!Into which genus do scientists put {X}?

order: order
Which order does {X} belong to, in biology?
What is the scientific order of {X}?
To which biological order does {X} belong?
In which taxonomic order is {X} classified?
What order is {X} in, in biology?
Name the taxonomic order of {X}.
Under which order is {X} classified by biologists?
Which taxonomic order includes {X}?
!What is the taxonomic order of {X}?
!Biologists place {X} in which order?
!Into which order do scientists put {X}?

native: native to
Where is {X} native to?
Which region is {X} native to?
To which part of the world is {X} native?
What is the native region of {X}?
Where does {X} come from originally?
Name the region that {X} is native to.
In which part of the world is {X} native?
Which part of the world is {X} native to?
!To which region is {X} native?
!What is the native home of {X}?
!From which part of the world does {X} originally come?
~ Where in the wild would one meet {X}? => where to meet in the wild
!~ Which corner of the globe is the home of {X}? => home corner of the globe

species_count: species
How many species of {X} are there?
How many species are there of {X}?
What is the number of species of {X}?
How many species are known of {X}?
How many species does the group of {X} have?
Give the number of species of {X}.
How many different species of {X} exist?
Into how many species is {X} divided?
!How many living species are counted for {X}?
!What number of species is reported for {X}?
!State how many species of {X} there are.
~ In how many varieties does nature make {X}? => how many varieties in nature
!~ How many sorts of {X} are there in nature? => how many sorts in nature

made_of: made of
What is {X} made of?
What is {X} usually made from?
From what is {X} made?
Of what is {X} made?
Which material or ingredient is {X} made of?
Name what {X} is made from.
What is {X} typically made of?
What goes into making {X}?
!Out of what is {X} made?
!What is used to make {X}?
!Tell me what {X} is made of.

kind: -
According to its page, what kind of thing is {X}?
What kind of thing is {X}, by its definition?
How does an encyclopedia define {X}: as what kind of thing?
What type of thing is {X} by definition?
As what is {X} defined?
What is {X} defined as in an encyclopedia?
Which kind of thing does the encyclopedia call {X}?
In an encyclopedia, {X} is described as a what?
!Under what kind of thing would an encyclopedia file {X}?
!What sort of thing is {X} according to the encyclopedia?
!How is {X} categorised by an encyclopedia?
"""

NAMING = """
name_flag: flag
Which country's flag is this?
What country does this flag belong to?
This is the flag of which country?
Whose flag is this?
Which country is this the flag of?
Name the country with this flag.
What country is this?
Which country flies this flag?
Identify the country of this flag.
!Can you tell which country this flag stands for?
!What nation is represented by this flag?
!To which country or territory does this flag belong?

name_flag_crop: flag
Which country's flag is {T}?
What country does {T} belong to?
To which country does {T} belong?
{T} is the flag of which country?
Whose flag is {T}?
Which country is {T} the flag of?
Name the country of {T}.
Which country flies {T}?
Identify the country of {T}.
!Can you tell which country {T} stands for?
!What nation is represented by {T}?
!Look at {T}: to which country or territory does it belong?

name_thing: picture
What is this called?
What is this?
What does this picture show?
What is shown here?
Name the thing in the picture.
What is the name of this?
What do you call this?
What can be seen here?
Identify what is shown.
!Can you tell what this is?
!What thing is depicted here?
!What would you call the thing in this picture?

name_thing_crop: picture
What is {T}?
What is {T} called?
What does {T} show?
Name {T}.
What is the name of {T}?
What do you call {T}?
Identify {T}.
What can be seen in {T}?
Tell me what {T} is.
!Can you tell what {T} is?
!What thing is {T}?
!Look at {T}: what is it?
"""

VISIBLE = """
count_items: -
How many items are there in the picture?
How many pictures are arranged here?
How many things can you see?
Count the items in this picture.
How many separate items are shown?
How many things are in the picture?
What is the number of items in this picture?
How many objects do you see here?
!In total, how many items does the picture contain?
!How many items have been placed on the canvas?

count_flags: -
How many flags are there in the picture?
How many flags can you see?
Count the flags in this picture.
How many of the items are flags?
How many flags are shown?
What is the number of flags in the picture?
How many flags do you see here?
How many of the things shown are flags?
!In total, how many flags does the picture contain?
!How many flags have been placed on the canvas?

count_things: -
How many items in the picture are not flags?
How many of the items are not flags?
Leaving the flags aside, how many items are there?
Count the items that are not flags.
How many things other than flags can you see?
What is the number of items that are no flags?
How many items besides flags are shown?
Without the flags, how many items do you see?
!Not counting flags, how many items does the picture contain?
!How many of the things shown are something else than a flag?

background: -
What colour is the background?
Which colour does the background have?
What is the background colour of this picture?
On what colour background are the items placed?
What colour is behind the items?
Name the background colour.
The background is which colour?
What is the colour of the background?
!In which colour is the background painted?
!What colour has the canvas behind the items?

main_colour: -
What is the main colour of {T}?
Which colour covers most of {T}?
What colour is {T} mostly?
Which colour dominates {T}?
What is the most common colour in {T}?
Name the main colour of {T}.
Mostly, what colour is {T}?
What is the dominant colour of {T}?
!Which single colour takes up the largest part of {T}?
!If you had to name one colour for {T}, what would it be?

kind_at: -
What kind of thing is {T}: a flag, an animal, a plant, food, a vehicle, a building or an object?
Is {T} a flag, an animal, a plant, food, a vehicle, a building or an object?
{T}: is it a flag, an animal, a plant, food, a vehicle, a building or an object?
What is {T}: flag, animal, plant, food, vehicle, building or object?
Which of these is {T}: flag, animal, plant, food, vehicle, building, object?
Say what {T} is: a flag, an animal, a plant, food, a vehicle, a building or an object.
Among flag, animal, plant, food, vehicle, building and object, what is {T}?
Flag, animal, plant, food, vehicle, building or object: which one is {T}?
!How would you class {T}: flag, animal, plant, food, vehicle, building or object?
!Pick one for {T}: flag, animal, plant, food, vehicle, building, object.
"""

Frames = Literal["country", "country in a scene", "thing"]

FRAMES: dict[Frames, tuple[str, ...]] = {
    "country": (
        "this country",
        "the country with this flag",
        "the country this flag belongs to",
        "the country shown by its flag",
        "the country whose flag this is",
        "the country in the picture",
        "!the nation that flies this flag",
        "!the place this flag stands for",
    ),
    "country in a scene": (
        "the country of {T}",
        "the country that {T} belongs to",
        "the country whose flag is {T}",
        "the country shown by {T}",
        "!the nation that flies {T}",
        "!the place that {T} stands for",
    ),
    "thing": (
        "the {N} in the picture",
        "the {N} shown here",
        "this {N}",
        "the {N} in this picture",
        "the pictured {N}",
        "!the {N} you see here",
        "!the depicted {N}",
    ),
}
"""What `{C}` and `{X}` become, `!` marks the reserved ones: a picture of one flag, one flag of several (`{T}` tells which),
a picture of one thing (`{N}` is `animal`, `plant`, `food`, ... of its group)."""


@dataclass(frozen=True)
class Wordings:
    """All wordings of one relation."""

    formal_query: str
    """What the page calls it; follows the entity's name in a good query."""
    formal: tuple[Phrasing, ...]
    lay: tuple[Phrasing, ...]


@cache
def wordings() -> dict[str, Wordings]:
    """Relation -> its wordings, from all tables."""
    return parse("\n\n".join((COUNTRY, THING, NAMING, VISIBLE)))


def parse(text: str) -> dict[str, Wordings]:
    """Relation -> its wordings, from blocks as the tables above have them."""
    table: dict[str, Wordings] = {}
    for block in re.split(r"\n\s*\n", text.strip()):
        head, *lines = block.strip().splitlines()
        relation, query = head.split(": ", 1)
        formal: list[Phrasing] = []
        lay: list[Phrasing] = []
        for line in lines:
            reserved = line.startswith("!")
            text = line.lstrip("!")
            if text.startswith("~"):
                text, words = text[1:].split("=>")
                phrasing = Phrasing(f"{relation}/lay-{len(lay)}", relation, text.strip(), reserved, words.strip())
                lay.append(phrasing)
            else:
                formal.append(Phrasing(f"{relation}/{len(formal)}", relation, text, reserved))
        table[relation] = Wordings("" if query == "-" else query, tuple(formal), tuple(lay))
    return table


def frames(name: Frames, *, reserved: bool) -> list[str]:
    """The frames a split may use: all of them with `reserved`, else only the open ones."""
    return [frame.lstrip("!") for frame in FRAMES[name] if reserved or not frame.startswith("!")]
