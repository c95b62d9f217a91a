/**
 * What customers and partners have in place of the menu of staff, in its order. Which of these one of them has, and what
 * he may do there, his permissions say.
 */

export const PORTAL = [
  "leadForwards",
  "leads",
  "dealRegistrations",
  "opportunities",
  "quotes",
  "contracts",
  "orders",
  "deliveries",
  "invoices",
  "payments",
  "commissionStatements",
  "tickets",
  "products",
  "tips",
  "callScripts",
  "posts",
  "partners",
];

/** What they reach from there, without a place in the menu. */
const REACHED = ["contacts", "profileChanges", "files", "notifications", "profile", "my-sessions"];

/** Whether an address leads to a page of the portal that one has who `reads` these collections: others are for staff. */
export function isOfPortal(pathname: string, reads: (collection: string) => boolean): boolean {
  const [first = ""] = pathname.split("/").filter(Boolean);
  return first === "" || REACHED.includes(first) || (PORTAL.includes(first) && reads(first));
}

/** Whether an address is that of the company that a person outside belongs to, whose page is the profile; staff has none. */
export function isOwnCompany(pathname: string, account: string): boolean {
  return account !== "" && pathname === `/${account}`;
}
