/** The two kinds of pool: what waits in them, and what one of those is made of once it is claimed. */
export interface Kind {
  /** The page's name among the pages, and its own words. */
  page: string;
  words: string;
  pools: string;
  items: string;
  rules: string;
  /** What waits: its collection, and the field of the item that names it. */
  collection: string;
  field: string;
  /** Fields of a waiting item. */
  shown: string[];
  /** When it goes back to the pool, and what else is told of one's own. */
  due: string;
  own: string[];
  /** The server counts who looks at what, and tells what one may still do. */
  counted: boolean;
  /** Verbs of the pool for its managers, who name what they picked. */
  managing: string[];
}

export const SEA: Kind = {
  page: "sea",
  words: "sea",
  pools: "pools",
  items: "poolItems",
  rules: "poolRules",
  collection: "accounts",
  field: "account",
  shown: ["industry", "level", "source", "how", "pooledTime", "lastInteractionTime"],
  due: "seaDueTime",
  own: ["seaClause", "lastInteractionTime", "level"],
  counted: true,
  managing: ["assignItems", "transferItems"],
};

export const LEAD_POOLS: Kind = {
  page: "leadPools",
  words: "leads",
  pools: "leadPools",
  items: "leadPoolItems",
  rules: "leadPoolRules",
  collection: "leads",
  field: "lead",
  shown: ["companyName", "personName", "channel", "rating", "score", "how", "pooledTime"],
  due: "returnDueTime",
  own: ["state", "rating", "lastFollowUpTime"],
  counted: false,
  managing: [],
};
