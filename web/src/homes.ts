/** What each role sees first: its tiles from top to bottom, and the button that begins its day. */

export interface TileSpec {
  collection: string;
  /** The columns beside the title; the first stands below it. */
  show: string[];
  filter?: string;
  orderBy: string;
  /** Only what is the person's own, unless the role answers for others' work too. */
  own?: "owner" | "assignee";
  /** Where there is nothing, one can begin something. */
  create?: true;
}

const NEWEST = "createTime desc";
const OPEN_TICKET =
  '(state = "ACKNOWLEDGED" OR state = "IN_PROGRESS" OR state = "PENDING" OR state = "HELD")';
const OPEN_TASK = '(state = "OPEN" OR state = "IN_PROGRESS")';
const UNPAID = 'state = "ISSUED" AND NOT paymentState = "PAID"';

/** Titles stand in the catalogue of texts under `tile.<key>`. */
export const TILES = {
  nextSteps: {
    create: true,
    collection: "tasks",
    filter: `owner = me AND ${OPEN_TASK}`,
    orderBy: "dueTime",
    show: ["priority", "dueTime"],
  },
  leadsToAnswer: {
    collection: "leads",
    filter: 'state = "NEW"',
    orderBy: "createTime",
    show: ["companyName", "channel", "createTime"],
    own: "owner",
  },
  openDeals: {
    create: true,
    collection: "opportunities",
    filter: 'state = "OPEN"',
    orderBy: "expectedCloseDate",
    show: ["account", "amount", "expectedCloseDate"],
    own: "owner",
  },
  lateDeals: {
    collection: "opportunities",
    filter: 'state = "OPEN" AND expectedCloseDate < today',
    orderBy: "expectedCloseDate",
    show: ["account", "amount", "expectedCloseDate"],
    own: "owner",
  },
  quotesOut: {
    collection: "quotes",
    filter: 'state = "SENT"',
    orderBy: "validUntilDate",
    show: ["account", "grossTotal", "validUntilDate"],
    own: "owner",
  },
  seaDue: {
    collection: "accounts",
    filter: "seaDueTime:* AND seaDueTime < now+7d",
    orderBy: "seaDueTime",
    show: ["seaClause", "seaDueTime"],
    own: "owner",
  },
  recent: {
    collection: "accounts",
    orderBy: "updateTime desc",
    show: ["level", "industry", "updateTime"],
  },
  approvals: {
    collection: "approvals",
    filter: 'state = "PENDING"',
    orderBy: "createTime",
    show: ["action", "requester"],
  },
  ticketQueue: {
    collection: "tickets",
    filter: `NOT assignee:* AND ${OPEN_TICKET}`,
    orderBy: "nextEscalationTime",
    show: ["account", "priority", "nextEscalationTime"],
  },
  myTickets: {
    collection: "tickets",
    filter: OPEN_TICKET,
    orderBy: "nextEscalationTime",
    show: ["account", "priority", "nextEscalationTime"],
    own: "assignee",
  },
  breached: {
    collection: "tickets",
    filter: `breached = true AND ${OPEN_TICKET}`,
    orderBy: "createTime",
    show: ["account", "priority", "assignee"],
  },
  waitingTickets: {
    collection: "tickets",
    filter: 'state = "PENDING"',
    orderBy: "updateTime",
    show: ["account", "awaiting", "updateTime"],
  },
  campaigns: {
    create: true,
    collection: "campaigns",
    filter: '(state = "RUNNING" OR state = "PAUSED")',
    orderBy: "endDate",
    show: ["kind", "leadCount", "endDate"],
  },
  submissions: {
    collection: "submissions",
    orderBy: NEWEST,
    show: ["form", "state", "createTime"],
  },
  campaignLeads: {
    collection: "leads",
    filter: 'campaign:* AND (state = "NEW" OR state = "WORKING")',
    orderBy: NEWEST,
    show: ["companyName", "campaign", "state"],
  },
  toInvoice: {
    collection: "invoices",
    filter: 'state = "DRAFT"',
    orderBy: "createTime",
    show: ["account", "gross", "createTime"],
  },
  toMatch: {
    collection: "payments",
    filter: 'state = "RECEIVED" AND unapplied > 0',
    orderBy: "date",
    show: ["account", "unapplied", "date"],
  },
  overdue: {
    collection: "invoices",
    filter: `${UNPAID} AND due < today`,
    orderBy: "due",
    show: ["account", "balance", "due"],
  },
  dueSoon: {
    collection: "invoices",
    filter: `${UNPAID} AND due >= today`,
    orderBy: "due",
    show: ["account", "balance", "due"],
  },
  contractsToDo: {
    collection: "contracts",
    filter: '(state = "IN_APPROVAL" OR state = "AWAITING_SIGNATURE" OR state = "SIGNED")',
    orderBy: "updateTime",
    show: ["account", "gross", "state"],
    own: "owner",
  },
  openOrders: {
    collection: "orders",
    filter: '(state = "ACKNOWLEDGED" OR state = "IN_PROGRESS" OR state = "HELD" OR state = "PENDING")',
    orderBy: NEWEST,
    show: ["account", "gross", "state"],
  },
  deliveries: {
    collection: "deliveries",
    filter: '(state = "READY" OR state = "SHIPPED")',
    orderBy: "plannedDate",
    show: ["account", "state", "plannedDate"],
  },
  joiners: {
    collection: "employees",
    filter: '(state = "INVITED" OR state = "FROZEN")',
    orderBy: NEWEST,
    show: ["position", "state"],
  },
  jobs: {
    collection: "bulkJobs",
    orderBy: NEWEST,
    show: ["mode", "state", "createTime"],
  },
  audit: {
    collection: "auditEntries",
    orderBy: "time desc",
    show: ["actor", "action", "time"],
  },
  keys: {
    collection: "apiKeys",
    filter: 'state = "ACTIVE"',
    orderBy: "expireTime",
    show: ["account", "expireTime"],
  },
  leadOffers: {
    collection: "leadForwards",
    filter: 'state = "OFFERED"',
    orderBy: "createTime",
    show: ["region", "expireTime"],
  },
  registrations: {
    collection: "dealRegistrations",
    orderBy: NEWEST,
    show: ["contactName", "state"],
  },
  statements: {
    collection: "commissionStatements",
    orderBy: NEWEST,
    show: ["month", "payable", "state"],
  },
  quotesToAnswer: {
    collection: "quotes",
    filter: 'state = "SENT"',
    orderBy: "validUntilDate",
    show: ["number", "grossTotal", "validUntilDate"],
  },
  proofs: {
    collection: "posts",
    filter: 'kind = "PROOF" AND state = "PUBLISHED"',
    orderBy: NEWEST,
    show: ["kind", "publishTime"],
  },
} satisfies Record<string, TileSpec>;

export type TileKey = keyof typeof TILES | "funnel" | "notices";

export interface HomeSpec {
  /** The role that a person with several is greeted by: the first of these. */
  role: string;
  tiles: TileKey[];
  /** What the first button makes, or where it leads. */
  first?: { create: string } | { open: TileKey };
  /** A box for a name and a phone number: one click from home to a new customer. */
  newCustomer?: boolean;
}

export const HOMES: HomeSpec[] = [
  {
    role: "administrator",
    tiles: ["approvals", "joiners", "jobs", "audit", "keys", "funnel", "recent", "notices"],
    first: { create: "employees" },
    newCustomer: true,
  },
  {
    role: "general_manager",
    tiles: [
      "approvals",
      "funnel",
      "lateDeals",
      "overdue",
      "contractsToDo",
      "breached",
      "openDeals",
      "notices",
    ],
    newCustomer: true,
  },
  {
    role: "sales_manager",
    tiles: [
      "approvals",
      "funnel",
      "lateDeals",
      "leadsToAnswer",
      "openDeals",
      "quotesOut",
      "recent",
      "notices",
    ],
    newCustomer: true,
  },
  {
    role: "sales_representative",
    tiles: [
      "nextSteps",
      "leadsToAnswer",
      "seaDue",
      "openDeals",
      "funnel",
      "quotesOut",
      "recent",
      "myTickets",
      "notices",
    ],
    newCustomer: true,
  },
  {
    role: "marketer",
    tiles: ["campaigns", "submissions", "campaignLeads", "nextSteps", "notices"],
    first: { create: "campaigns" },
  },
  {
    role: "service_manager",
    tiles: ["approvals", "breached", "ticketQueue", "waitingTickets", "nextSteps", "notices"],
    first: { open: "ticketQueue" },
  },
  {
    role: "service_agent",
    tiles: ["myTickets", "ticketQueue", "waitingTickets", "breached", "nextSteps", "notices"],
    first: { open: "ticketQueue" },
  },
  {
    role: "finance",
    tiles: ["toMatch", "toInvoice", "overdue", "dueSoon", "approvals", "contractsToDo", "notices"],
    first: { open: "toMatch" },
  },
  {
    role: "partner",
    tiles: ["leadOffers", "registrations", "openDeals", "openOrders", "statements", "notices"],
    first: { create: "dealRegistrations" },
  },
  {
    role: "customer",
    tiles: [
      "quotesToAnswer",
      "openOrders",
      "deliveries",
      "overdue",
      "dueSoon",
      "proofs",
      "myTickets",
      "notices",
    ],
    first: { create: "tickets" },
  },
];

/** For people with a role of the company's own making. */
const ANY: HomeSpec = {
  role: "",
  tiles: ["nextSteps", "leadsToAnswer", "openDeals", "myTickets", "toMatch", "recent", "notices"],
  newCustomer: true,
};

export const homeOf = (roles: readonly string[]): HomeSpec =>
  HOMES.find((home) => roles.includes(home.role)) ?? ANY;
